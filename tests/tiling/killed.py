"""A program that predicts in child processes, kills them at random moments, and prints what each of them computed.

    python killed.py FOLDER N_KILLS SEED

One process imports torch and forks, so that a kill costs milliseconds and not seconds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from emseg.tiling import TileGrid, open_output, predict_tiled

GRID = TileGrid(210, 90, tile=30, halo=3, overlap=6)
SECONDS_A_BATCH = 0.02


def network(tiles: torch.Tensor) -> torch.Tensor:
    """Disagrees between tiles, so that blending matters."""
    return torch.cat([tiles + tiles.mean(dim=(1, 2, 3), keepdim=True), tiles * 2], dim=1)


def predict(folder: Path, *, slow: bool) -> None:
    def counted(tiles: torch.Tensor) -> torch.Tensor:
        with (folder / "computed.log").open("a") as log:
            log.write(f"{len(tiles)}\n")
        time.sleep(SECONDS_A_BATCH if slow else 0)
        return network(tiles)

    image = np.random.default_rng(0).integers(0, 256, (GRID.height, GRID.width), dtype=np.uint8)
    out = open_output(folder / "out.npy", GRID, 2, "float32")
    predict_tiled(counted, image, GRID, batch_size=2, out=out, checkpoint=folder / "state.json")


def main() -> None:
    folder, n_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng, killed = random.Random(seed), 0
    while True:
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            predict(folder, slow=killed < n_kills)
            os._exit(0)
        if killed < n_kills:
            time.sleep(rng.uniform(0.02, 0.12))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            assert status == 0, status
            break
    computed = sum(int(line) for line in (folder / "computed.log").read_text().split())
    print(json.dumps({"killed": killed, "computed": computed, "n_tiles": GRID.n_tiles, "n_columns": len(GRID.columns)}))


if __name__ == "__main__":
    main()
