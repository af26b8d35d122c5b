"""How far two routes to one result may differ: memory layouts, threads, batches, tiles, instruction sets, processors.

Sums in another order end in other bits, so equal bits are asked for only where a run that was resumed is compared with
one that was not, or a call with the same call. Every other comparison of two routes takes its tolerance from here.
"""

from typing import Any

import numpy as np
import torch

ROUTE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Largest difference by dtype, as a fraction of the largest absolute value."""


def assert_routes_agree(got: Any, wanted: Any, *, factor: float = 1.0) -> None:
    """Fail unless two arrays or tensors agree in shape, dtype and, to `factor` times their dtype's tolerance, in value.

    Whole numbers and booleans must be equal; NaN and infinities must stand at the same places.
    """
    a, b = _tensor(got), _tensor(wanted)
    assert a.shape == b.shape, f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}"
    assert a.dtype == b.dtype, f"dtypes differ: {a.dtype} and {b.dtype}"
    if a.dtype not in ROUTE_TOLERANCE:
        assert torch.equal(a, b), f"{int((a != b).sum())} of {a.numel()} values differ"
        return
    a, b = a.double(), b.double()
    finite = b.isfinite()
    assert torch.equal(a[~finite].nan_to_num(0.5), b[~finite].nan_to_num(0.5)), "values that are not finite differ"
    if finite.any():
        allowed = factor * ROUTE_TOLERANCE[_tensor(got).dtype] * max(float(b[finite].abs().max()), 1e-300)
        error = float((a[finite] - b[finite]).abs().max())
        assert error <= allowed, f"the largest difference is {error:.3g}, allowed are {allowed:.3g}"


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return torch.from_numpy(np.ascontiguousarray(value))
