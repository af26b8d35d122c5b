"""From a design to a network with its initial weights, and to its receptive field.

The weights depend on the design and on `seed` alone, and the global random state is restored. The encoder's are drawn
before its attention's, and the decoder's from a separate stream, so that networks which differ only in the encoder's
attention start from the same weights everywhere else.

Sources of the distributions: encoder, torchvision's (`emseg.frequency.resnet.initialize`); decoder and head, smp's.
"""

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from emseg.checks import changed, require_count, require_one_of
from emseg.errors import InputError
from emseg.frequency.resnet import initialize
from emseg.membrane.networks.membrane_network import MembraneNetwork, RefinedNetwork
from emseg.membrane.networks.network_design import MIN_BASE_CHANNELS, NetworkDesign, encoder_attention
from emseg.tiling.receptive_field import GLOBAL_FIELD, ReceptiveField, theoretical_receptive_field

# Separates the decoder's random stream from the encoder's.
_DECODER_STREAM = 0x9E3779B9


def build_network(design: NetworkDesign, *, seed: int) -> MembraneNetwork:
    """Return the network of `design`, on the CPU and in training mode, with initial weights drawn from `seed`.

    Where the design has `encoder_weights`, smp fetches them and they replace the encoder's (not its attention's).
    Raises `UsageError` for names unknown to smp, `InputError` where the weights cannot be fetched.
    """
    network = _random_network(design, require_count("seed", seed, 0))
    if design.encoder_weights is not None:
        fetched = _fetched_weights(design.encoder, design.encoder_weights, design.in_channels)
        own = network.encoder.state_dict()
        network.encoder.load_state_dict({name: fetched.get(name, value) for name, value in own.items()})
    return network


def build_refined(first: MembraneNetwork, design: NetworkDesign, *, seed: int) -> RefinedNetwork:
    """Return a refinement of a copy of `first` by a network of `design` whose corrections start at zero, on the CPU.

    `design` has `in_channels` 2; its other weights are drawn from `seed`. Raises `UsageError` for other designs.
    """
    second = build_network(design, seed=seed)
    nn.init.zeros_(second.last_convolution.weight)
    if second.last_convolution.bias is not None:
        nn.init.zeros_(second.last_convolution.bias)
    return RefinedNetwork(copy.deepcopy(first).cpu(), second)


def receptive_field(network: MembraneNetwork | NetworkDesign) -> ReceptiveField:
    """Return the theoretical receptive field of the network's output; its `reach` is the halo of tiles.

    It is global where an attention pools the whole map. The reaches of the two networks of a refinement add up.
    """
    if isinstance(network, RefinedNetwork):
        first, second = receptive_field(network.first), receptive_field(network.second)
        sides = ((getattr(first, side), getattr(second, side)) for side in ("up", "down", "left", "right"))
        return ReceptiveField(*(None if None in pair else sum(pair) for pair in sides))
    design = network if isinstance(network, NetworkDesign) else network.design
    if design.attention != "none":
        return GLOBAL_FIELD
    decoder = None if design.decoder_channels is None else (MIN_BASE_CHANNELS,) * design.encoder_depth
    narrow = {"base_channels": MIN_BASE_CHANNELS, "decoder_channels": decoder}  # the width has no influence
    return _field_of_twin(changed(design, **narrow, encoder_weights=None, in_channels=1))


@lru_cache(maxsize=32)
def _field_of_twin(design: NetworkDesign) -> ReceptiveField:
    return theoretical_receptive_field(build_network(design, seed=0), stride=design.stride)


def _random_network(design: NetworkDesign, seed: int) -> MembraneNetwork:
    # smp takes seconds to import; a design alone must not wait for it.
    from emseg.membrane.networks.architectures import CaseNet, DecodedNetwork, PlainEncoder, ResNetEncoder

    attention = encoder_attention(design.attention, design.attention_options)
    generator = torch.Generator().manual_seed(seed)
    encoder: PlainEncoder | ResNetEncoder
    # Constructors always draw from the CPU's global generator; `torch.manual_seed` would seed GPUs too.
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        if design.resnet is None:
            encoder = PlainEncoder(design.base_channels, design.encoder_depth, attention, design.in_channels)
            initialize(encoder, generator)
        else:
            encoder = ResNetEncoder(design.resnet, attention, generator=generator)
        torch.default_generator.manual_seed(seed ^ _DECODER_STREAM)
        return (CaseNet if design.architecture == "casenet" else DecodedNetwork)(design, encoder)


def _fetched_weights(encoder: str, weights: str, in_channels: int) -> dict[str, Tensor]:
    from segmentation_models_pytorch.encoders import encoders, get_encoder  # type: ignore[import-untyped]

    require_one_of("encoder_weights", weights, encoders[encoder]["pretrained_settings"])
    try:
        return get_encoder(encoder, in_channels=in_channels, weights=weights).state_dict()  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise InputError(
            f"the weights {weights!r} of {encoder} could not be fetched ({type(error).__name__}). "
            "Connect to a network, or start from random weights with encoder_weights=None."
        ) from None
