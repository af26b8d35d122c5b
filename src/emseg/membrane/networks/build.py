"""From a design to a network with its initial weights.

The weights depend on the design and on `seed` alone, and the global random state stays as it was. The encoder's are
drawn before its attention's, and the decoder's from a stream of their own, so that networks which differ in the
encoder's attention start from the same weights everywhere else.

Sources of the distributions: encoder, torchvision's (`emseg.frequency.resnet.initialize`); decoder and head, smp's.
"""

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError, suggest
from emseg.frequency.resnet import initialize
from emseg.membrane.networks.attention_places import encoder_attention
from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork

# Keeps the decoder's stream apart from the encoder's.
_DECODER_STREAM = 0x9E3779B9


def build_network(design: NetworkDesign, *, seed: int) -> MembraneNetwork:
    """Return the network of `design`, on the CPU and in training mode, with initial weights drawn from `seed`.

    Where the design names `encoder_weights`, they are fetched by smp and replace the encoder's (not its attention's).
    Raises `UsageError` for names that smp does not know, `InputError` where they cannot be fetched.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"`seed` must be a whole number of at least 0; got {seed!r}.")
    network = _untrained(design, seed)
    if design.encoder_weights is not None:
        fetched = _fetched_weights(design.encoder, design.encoder_weights, design.in_channels)
        own = network.encoder.state_dict()
        network.encoder.load_state_dict({name: fetched.get(name, value) for name, value in own.items()})
    return network


def _untrained(design: NetworkDesign, seed: int) -> MembraneNetwork:
    # smp takes seconds to import; a design alone must not wait for it.
    from emseg.membrane.networks.casenet import CaseNet
    from emseg.membrane.networks.linknet import Linknet
    from emseg.membrane.networks.plain_encoder import PlainEncoder
    from emseg.membrane.networks.resnet_encoder import ResNetEncoder
    from emseg.membrane.networks.unet import Unet

    attention = encoder_attention(design.attention, design.attention_options)
    generator = torch.Generator().manual_seed(seed)
    # Constructors draw from the CPU's global generator whatever they are told; `torch.manual_seed` would seed GPUs too.
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        if design.resnet is None:
            encoder: PlainEncoder | ResNetEncoder = PlainEncoder(
                design.base_channels, design.encoder_depth, attention, design.in_channels
            )
            initialize(encoder, generator)
        else:
            encoder = ResNetEncoder(design.resnet, attention, generator=generator)
        torch.default_generator.manual_seed(seed ^ _DECODER_STREAM)
        networks: dict[str, type[Unet | Linknet | CaseNet]] = {"unet": Unet, "linknet": Linknet, "casenet": CaseNet}
        return networks[design.architecture](design, encoder)


def _fetched_weights(encoder: str, weights: str, in_channels: int) -> dict[str, Tensor]:
    """Return the weights that smp has for an encoder of so many input channels."""
    from segmentation_models_pytorch.encoders import encoders, get_encoder  # type: ignore[import-untyped]

    known = tuple(encoders[encoder]["pretrained_settings"])
    if weights not in known:
        raise UsageError(
            f"`encoder_weights` for {encoder} must be one of {', '.join(map(repr, known))}; got {weights!r}."
            + suggest(weights, known)
        )
    try:
        fetched: dict[str, Tensor] = get_encoder(encoder, in_channels=in_channels, weights=weights).state_dict()
    except (OSError, ValueError) as error:
        raise InputError(
            f"the weights {weights!r} of {encoder} could not be fetched ({type(error).__name__}). "
            "Connect to a network, or start from random weights with encoder_weights=None."
        ) from None
    return fetched
