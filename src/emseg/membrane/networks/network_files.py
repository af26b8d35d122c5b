"""A trained network in a file: its weights, and in the header the design that they belong to.

    .safetensors   tensors only, read without executing anything; the header contains
                   design          the `NetworkDesign` as JSON
                   first_design    of a refined network, that of its first network; `design` is then the second's
                   format          "emseg membrane network 1"

A file of another architecture is refused as a whole, with the count of matching tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.files import write_atomically
from emseg.membrane.networks.build_network import build_network
from emseg.membrane.networks.membrane_network import MembraneNetwork, RefinedNetwork
from emseg.membrane.networks.network_design import NetworkDesign

SAFETENSORS = ".safetensors"
FORMAT = "emseg membrane network 1"
_RESERVED = {"design", "first_design", "format"}


def save_network(
    network: MembraneNetwork,
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of `network` to a .safetensors file, with its design and `notes` in the header.

    `dtype` rounds floating-point weights: torch.float16 halves the file and keeps 11 significant bits.
    """
    import safetensors.torch

    if Path(path).suffix != SAFETENSORS:
        raise UsageError(f"networks are written as {SAFETENSORS}; got {Path(path).name!r}. Change the name.")
    reserved = sorted(_RESERVED & set(notes or {}))
    if reserved:
        raise UsageError(f"`notes` must not contain {reserved[0]!r}, a name that the file reserves; rename that note.")
    tensors = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in network.state_dict().items()
    }
    write_atomically(path, safetensors.torch.save(tensors, metadata={**(notes or {}), **network_header(network)}))


def network_header(network: MembraneNetwork) -> dict[str, str]:
    """Return the header of a file with the weights of `network`."""
    header = {"format": FORMAT, "design": json.dumps(network.design.to_dict())}
    if isinstance(network, RefinedNetwork):
        header["first_design"] = json.dumps(network.first.design.to_dict())
    return header


def load_network(path: Path | str) -> MembraneNetwork:
    """Return the network of a file that `save_network` wrote, on the CPU, in float32 and in evaluation mode.

    Nothing is fetched, whatever weights the training started from. Raises `InputError` for a file that is missing,
    truncated, or no membrane network.
    """
    weights, header = read_tensors(Path(path))
    if header.get("format") != FORMAT or "design" not in header:
        raise InputError(
            f"{path} must be a membrane network that save_network wrote, with its design in the header; its format is "
            f"{header.get('format', 'missing')!r}. Load its weights with load_network_weights, if you know the design."
        )
    try:
        network = _random_network(header["design"])
        if "first_design" in header:
            network = RefinedNetwork(_random_network(header["first_design"]), network)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} has a design that this version does not know: {error}") from None
    _load(network, weights, path)
    return network.eval()


def load_network_weights(network: MembraneNetwork, path: Path | str) -> None:
    """Load a .safetensors file with exactly the weights of `network`, whatever its header.

    Raises `InputError` for weights of another architecture; the network is then unchanged.
    """
    _load(network, read_tensors(Path(path))[0], path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a .safetensors file and its header; raises `InputError` for one that cannot be read."""
    import safetensors

    if not path.is_file():
        raise InputError(f"the network must be a file; there is no {path}. Check the path.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a whole {SAFETENSORS} file; it cannot be read ({error}).") from None


def _random_network(text: str) -> MembraneNetwork:
    """Return a network of a header's design; pretrained weights that it started from are not fetched."""
    design = NetworkDesign(**json.loads(text))
    network = build_network(replace(design, encoder_weights=None), seed=0)
    network.design = design
    return network


def _load(network: MembraneNetwork, weights: Mapping[str, Tensor], path: Path | str) -> None:
    own, design = network.state_dict(), network.design
    common = own.keys() & weights.keys()
    fitting = {name for name in common if own[name].shape == weights[name].shape}
    if len(fitting) != len(own) or len(weights) != len(own):
        odd = min(common - fitting or own.keys() ^ weights.keys())
        raise InputError(
            f"{path} must contain the weights of this network ({design.architecture}, {design.encoder}, "
            f"base_channels={design.base_channels}); of its {len(own)} tensors the file has {len(common)} by name and "
            f"{len(fitting)} of the same shape, and {len(weights) - len(common)} others, for example {odd!r}. "
            "Build the network with the design that the weights were trained with."
        )
    network.load_state_dict(dict(weights))
