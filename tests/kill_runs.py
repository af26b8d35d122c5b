"""Kill runs of a chapter at random moments and see what is left: nothing, and no record that is wrong.

    python tests/kill_runs.py [N_KILLS] [SEED]     default: 40 kills, seed 0

The signals take turns: SIGTERM, SIGHUP, SIGINT, SIGKILL. A run that is stopped by one of the first three says so in one
sentence, exits with 128 + the signal's number and leaves no file but what is whole; after SIGKILL the kernel ends by
itself and the next run removes the rest. A record is of a run that computed all of it, the one of this call.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from runs.mini_project import PARAMETERS, make_notebook, make_project

from emseg.errors import InputError
from emseg.runs.gathering import read_record

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)
BODY = """\
import time
from emseg.runs.session import Run
run = Run("part/first", seed=seed)
run.metric("scaled", scale, n=1, label="Scale")
time.sleep(1.0)
"""
LONGEST_S, KERNEL_ENDS_S = 7.0, 10.0


def main(n_kills: int, seed: int, folder: Path, longest_s: float = LONGEST_S) -> list[str]:
    """Kill `n_kills` runs in a new project below `folder` and return what was wrong, in words."""
    project = make_project(folder / "project")
    make_notebook(project / "book" / "part" / "first.ipynb", "part/first", parameters=PARAMETERS, body=BODY)
    runtime = folder / "runtime"
    runtime.mkdir()
    draw, faults = random.Random(seed), []
    for number in range(n_kills):
        which, delay_s = SIGNALS[number % len(SIGNALS)], draw.uniform(0, longest_s)
        faults += [
            f"kill {number}, {which.name} after {delay_s:.2f} s: {fault}"
            for fault in kill_one(project, runtime, number, which, delay_s)
        ]
    done = start(project, runtime, n_kills)
    if done.wait() != 0:
        faults.append(f"the run after all kills failed: {done.stderr.read()}")
    return faults + [f"left in the end: {path}" for path in left_behind(project, runtime)]


def start(project: Path, runtime: Path, seed: int) -> "subprocess.Popen[str]":
    """Start a run in its own session; its connection files would be in `runtime`."""
    command = [sys.executable, "-m", "emseg", "run", "part/first", "--quiet", "--name", "book", "-p", "seed", str(seed)]
    environment = os.environ | {"EMSEG_PROJECT": str(project), "JUPYTER_RUNTIME_DIR": str(runtime)}
    pipe = subprocess.PIPE
    options = {"cwd": project, "env": environment, "stdout": pipe, "stderr": pipe, "text": True}
    return subprocess.Popen(command, start_new_session=True, preexec_fn=listen, **options)  # type: ignore[call-overload,no-any-return]


def listen() -> None:
    """Give a run the usual signals, which a job in the background may have been told to ignore."""
    for number in SIGNALS[:3]:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def kill_one(project: Path, runtime: Path, number: int, which: signal.Signals, delay_s: float) -> list[str]:
    """Start a run, signal it after a while, and return what is wrong."""
    record = project / "_build" / "runs" / "laptop" / "part" / "first" / "book.json"
    record.unlink(missing_ok=True)
    process = start(project, runtime, number)
    time.sleep(delay_s)
    before_main = not any(record.parents[2].glob("**/.*.running")) and process.poll() is None
    process.send_signal(which)
    _, said = process.communicate(timeout=60)
    faults = []
    finished = process.returncode == 0
    if finished and not record.exists():
        faults.append("exit code 0 without a record")
    if record.exists():
        try:
            if read_record(record)["parameters"]["seed"] != number:
                faults.append("the record is of another run")
        except InputError as error:
            faults.append(str(error))
    if which == signal.SIGKILL:
        deadline = time.monotonic() + KERNEL_ENDS_S
        while kernels(project) and time.monotonic() < deadline:
            time.sleep(0.1)
    elif not finished:
        lines = [line for line in said.splitlines() if "running at profile" not in line]
        asleep = before_main and process.returncode == -which  # while Python itself was starting
        one_sentence = len(lines) == 1 and lines[0].startswith("emseg: interrupted")
        if not asleep and not (one_sentence and process.returncode == 128 + which):
            faults.append(f"exit code {process.returncode}, stderr {said!r}")
        own = f".{process.pid}-"  # what a run before that was killed by SIGKILL left is removed by the next that runs
        faults += [f"left: {path}" for path in left_behind(project, runtime) if own in str(path)]
    if alive := kernels(project):
        faults.append(f"kernels left: {alive}")
    return faults


def left_behind(project: Path, runtime: Path) -> list[Path]:
    """Return the files of a run in progress that lie around."""
    return [path for path in [*(project / "_build").rglob(".*"), *runtime.iterdir()] if path.name != ".gitignore"]


def kernels(project: Path) -> list[int]:
    """Return the processes whose command line names the project's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(project) in words and "ipykernel" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


if __name__ == "__main__":
    kills, first_seed = (int(word) for word in (sys.argv[1:] + ["40", "0"][len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory() as made:
        wrong = main(kills, first_seed, Path(made))
    print("\n".join(wrong) or f"{kills} kills: nothing left behind, no wrong record")
    sys.exit(bool(wrong))
