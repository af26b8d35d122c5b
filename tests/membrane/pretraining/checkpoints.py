"""Checkpoints in the formats that others write, made here from random weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

CEM500K_MEAN, CEM500K_STD = 0.57287007, 0.12740536


def perturbed(network: nn.Module, seed: int = 5) -> nn.Module:
    """Give every weight and every running statistic a value that no fresh network has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise if name.endswith("running_var") else tensor + 0.1 * (noise - 0.5))
    return network


def momentum_contrast_state(encoder: dict[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """Return the state dict of MoCo's code around an encoder: two networks with a head each, and the queue."""
    head = {"fc.0.weight": torch.ones(3, 3), "fc.0.bias": torch.ones(3), "fc.2.weight": torch.ones(2, 3)}
    networks = {
        f"{prefix}{which}.{name}": value
        for which in ("encoder_q", "encoder_k")
        for name, value in {**encoder, **head}.items()
    }
    return {**networks, f"{prefix}queue": torch.ones(2, 8), f"{prefix}queue_ptr": torch.zeros(1, dtype=torch.long)}


def write_cem500k(path: Path, encoder: dict[str, Tensor], **changes: object) -> Path:
    """Write a checkpoint with the keys of CEM500K's: epoch, arch, state_dict, optimizer, norms."""
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=0.03, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    content = {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": momentum_contrast_state(encoder),
        "optimizer": optimizer.state_dict(),
        "norms": [CEM500K_MEAN, CEM500K_STD],
    }
    torch.save({**content, **changes}, path)
    return path
