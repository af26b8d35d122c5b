"""A program that trains in child processes, kills them at random moments, and compares with an undisturbed training.

    python killed.py FOLDER N_KILLS SEED CHECKPOINT_SECONDS[,CHECKPOINT_SECONDS...] N_WORKERS N_DEVICES

One process imports torch and Lightning and forks, so that a kill costs milliseconds and not seconds. The moments are
drawn evenly over the time that the undisturbed training took, from its first line to its end. A child that ends before
its moment is no kill: the next training begins in a new folder, until N_KILLS have fallen for each setting. With
N_DEVICES of more than one the processes of a training are killed together.

Printed, a line of JSON a setting: where the kills fell, and in what finished trainings differ from the undisturbed one.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, toy_set

from emseg.membrane.networks import build_network
from emseg.membrane.training import TrainingPlan, membrane_prediction, membrane_trainer, train_network
from emseg.training import lightning_steps, work_folder

PLAN = TINY_PLAN.changed(n_steps=24, validate_every=9)
PAUSE = 0.02  # s, before and after every file, so that kills fall there too
FIRST, LATER, VALIDATING, FINISHING = "before the first checkpoint", "after it", "validating", "finishing"
LONGEST = 120  # s, for a training that nobody kills


def train(plan: TrainingPlan, work_dir: Path) -> None:
    """Train in this process; the file `doing` beside the folder says when it validates and when it finishes."""
    doing = work_dir.with_suffix(".doing")
    doing.write_text("")

    def noted(what: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            doing.write_text(what)
            time.sleep(PAUSE)
            result = function(*arguments, **options)
            time.sleep(PAUSE)
            doing.write_text("" if what == VALIDATING else what)
            return result

        return call

    atomic_path = work_folder.atomic_path

    @contextlib.contextmanager
    def slowly(*given: object, **options: object) -> Iterator[Path]:
        time.sleep(PAUSE)
        with atomic_path(*given, **options) as path:
            yield path
            time.sleep(PAUSE)

    if plan.n_devices > 1:  # as in a notebook that has computed before: forked processes must not wait for its threads
        torch.set_num_threads(2)
        torch.ones(10**6).exp()
    work_folder.atomic_path = slowly
    work_folder.finish = noted(FINISHING, work_folder.finish)
    membrane_trainer.validate = noted(VALIDATING, membrane_prediction.validate)
    train_network(TINY_DESIGN, plan, toy_set(), work_dir, progress=False)


def moment_of(work_dir: Path) -> str:
    """Return where in its life a training was killed."""
    doing = work_dir.with_suffix(".doing")
    what = doing.read_text() if doing.exists() else ""
    return what or (LATER if (work_dir / work_folder.CHECKPOINT).exists() else FIRST)


def fork(plan: TrainingPlan, work_dir: Path) -> int:
    """Return the number of a process that trains, and is the first of a group of its own."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            torch.set_num_threads(1)
            train(plan, work_dir)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)  # whoever comes first
    return child


def ended(child: int, seconds: float) -> bool:
    """Return whether a process came to its end within this time; otherwise kill its group."""
    until = time.perf_counter() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"a training that nobody killed ended with status {status}"
            return True
        if time.perf_counter() >= until:
            break
        time.sleep(0.001)
    os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of what is not the same in two finished work folders, times left out."""
    found = [work_folder.WEIGHTS] if weights_of(one) != weights_of(other) else []
    for name in (work_folder.CURVES, work_folder.VALIDATION):
        columns = [work_folder.read_columns(folder / name) for folder in (one, other)]
        kept = [{title: values for title, values in each.items() if title != "seconds"} for each in columns]
        found += [name] if kept[0] != kept[1] or not kept[0] else []
    # what a kill left half written stays beside, under a hidden name
    names = [{path.name for path in folder.iterdir() if not path.name.startswith(".")} for folder in (one, other)]
    return found + sorted(names[0] ^ names[1])


def weights_of(folder: Path) -> bytes:
    """Return the file of the weights."""
    return (folder / work_folder.WEIGHTS).read_bytes()


def kill(folder: Path, n_kills: int, seed: int, plan: TrainingPlan) -> dict[str, object]:
    """Kill trainings of this plan until `n_kills` have fallen, let each come to its end, and say what came of it."""
    rng, undisturbed = random.Random(seed), folder / "undisturbed"
    # everything is imported here, so that no child needs to
    if plan.n_devices == 1:
        train_network(TINY_DESIGN, TINY_PLAN.changed(n_steps=1, warm_up_steps=0), toy_set(), folder / "imports")
    else:  # Lightning forks in no child of a process that has trained
        build_network(TINY_DESIGN, seed=0)
    began = time.perf_counter()
    assert ended(fork(plan, undisturbed), LONGEST)
    seconds = time.perf_counter() - began
    kills: Counter[str] = Counter()
    lost: list[str] = []
    n_trainings = 0
    while kills.total() < n_kills:
        n_trainings += 1
        work_dir = folder / f"killed_{n_trainings}"
        while not ended(fork(plan, work_dir), rng.uniform(0, seconds) if kills.total() < n_kills else LONGEST):
            kills[moment_of(work_dir)] += 1
        lost += [f"{work_dir.name}/{name}" for name in differences(undisturbed, work_dir)]
    return {"kills": dict(kills), "trainings": n_trainings, "seconds": seconds, "lost": lost}


def main() -> None:
    folder, n_kills, seed, n_devices = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[6])
    plan = PLAN.changed(batch_size=2 * n_devices, n_workers=int(sys.argv[5]), n_devices=n_devices)
    torch.set_num_threads(1)
    lightning_steps._in_notebook = lambda: True  # where the processes of several devices are forked
    for seconds in sys.argv[4].split(","):
        place = folder / f"every_{seconds}_s"
        place.mkdir(parents=True)
        print(json.dumps(kill(place, n_kills, seed, plan.changed(checkpoint_seconds=float(seconds)))))


if __name__ == "__main__":
    main()
