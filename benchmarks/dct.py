"""How fast is `dct2`? Its two routes beside SciPy's `dctn`, in one run on this machine, CPU or CUDA.

    python benchmarks/dct.py                      # 64 to 4096 pixels a side, float32
    python benchmarks/dct.py --dtype float64 --sizes 256 1024
    python benchmarks/dct.py --device cuda --json dct.json

Every cell is the least of several repeats, in ms; a ratio under 1 means that `dct2` is faster than SciPy on the CPU
with as many workers as torch has threads. `MATRIX_LIMIT` of `emseg.frequency.dct` was chosen where the first two
columns cross. torch suffers more than SciPy when other programs share the cores: measure on a quiet machine.
"""

import argparse
import time
from collections.abc import Callable

import scipy.fft
import torch
from _results import add_json_option, finish

import emseg.frequency.dct as dct_module
from emseg.frequency import dct2


def least_ms(call: Callable[[], object], device: str, budget_s: float = 1.0) -> float:
    """Return the shortest time of one call, repeated for `budget_s` seconds after a warm-up, in ms."""
    call()
    best, end = float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < end:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def by_route(x: torch.Tensor, limit: int) -> float:
    """Return the time of `dct2` when maps of up to `limit` pixels a side take the matrix route."""
    chosen, dct_module.MATRIX_LIMIT = dct_module.MATRIX_LIMIT, limit
    try:
        return least_ms(lambda: dct2(x), x.device.type)
    finally:
        dct_module.MATRIX_LIMIT = chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 4096])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pixels", type=int, default=2**20, help="pixels of a batch, at least one map")
    add_json_option(parser)
    arguments = parser.parse_args()

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.device}, {arguments.dtype}")
    print(f"{'map':>14} {'matrix ms':>10} {'Fourier ms':>10} {'dct2 ms':>9} {'SciPy ms':>9} {'ratio':>6}")
    rows = []
    for size in arguments.sizes:
        batch = max(1, arguments.pixels // size**2)
        x = torch.randn(batch, size, size, dtype=getattr(torch, arguments.dtype))
        array, x = x.numpy(), x.to(arguments.device)
        matrix, fourier = by_route(x, 10**9), by_route(x, 0)
        ours = least_ms(lambda x=x: dct2(x), arguments.device)
        theirs = least_ms(
            lambda array=array: scipy.fft.dctn(array, axes=(-2, -1), workers=torch.get_num_threads()), "cpu"
        )
        shape = f"{batch} x {size}^2"
        print(f"{shape:>14} {matrix:10.2f} {fourier:10.2f} {ours:9.2f} {theirs:9.2f} {ours / theirs:6.2f}")
        times = {"matrix_ms": matrix, "fourier_ms": fourier, "dct2_ms": ours, "scipy_ms": theirs}
        rows.append({"size": size, "batch": batch, **times, "ratio": ours / theirs})
    finish(arguments, rows)


if __name__ == "__main__":
    main()
