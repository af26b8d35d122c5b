"""Is this checkout slower than another revision? The same work in both, in turns, in fresh processes.

    python benchmarks/against_revision.py --revision 8a57bf5 [--rounds 5] [--only tissue wafer] [--json FILE]

The revision is checked out by `git worktree` into a temporary folder and imported through PYTHONPATH, with the
packages of this environment. Each process runs its work once to compile and fill caches, then repeats it, and reports
its median processor time on one thread; a ratio is the median over rounds of this checkout over the revision. Targets:
at most 1.05 for everything.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _results import Target, add_json_option, finish
from _works import WORKS

ROOT = Path(__file__).resolve().parents[1]
SLOWER = Target("processor time of this checkout / the revision", 1.05, "x")


def in_checkout(checkout: Path, name: str, seconds: float) -> float:
    """Return what `measure` finds with the library of `checkout`, in a separate process."""
    paths = os.pathsep.join([str(checkout / "src"), str(checkout / "book")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / "_works.py"), name, str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", default="HEAD", help="what to compare with, as git names it (HEAD)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for one process's repetitions")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS))
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "revision"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), arguments.revision], check=True)
        try:
            for name in arguments.only:
                pairs = [
                    (in_checkout(ROOT, name, arguments.seconds), in_checkout(other, name, arguments.seconds))
                    for _ in range(arguments.rounds)
                ]
                ratios = [here / there for here, there in pairs]
                row = {
                    "work": name,
                    "here_s": statistics.median(here for here, _ in pairs),
                    "revision_s": statistics.median(there for _, there in pairs),
                    "ratio": statistics.median(ratios),
                    "lowest": min(ratios),
                    "highest": max(ratios),
                }
                rows.append(row)
                times = f"here {row['here_s']:8.4f} s   revision {row['revision_s']:8.4f} s"
                print(
                    f"{name:<20} {times}   ratio {row['ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    finish(arguments, rows, [SLOWER.judge(row["ratio"], row["work"]) for row in rows])


if __name__ == "__main__":
    main()
