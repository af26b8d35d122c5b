"""Several devices: two processes on the CPU share each step, write once, and go on after a kill as one process does."""

import json
import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from membrane.training import killed
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, toy_set

from emseg.errors import UsageError
from emseg.membrane.networks import build_network
from emseg.membrane.training import crop_sampling, train_network
from emseg.membrane.training.membrane_trainer import MembraneTask
from emseg.training import lightning_steps

TWO = TINY_PLAN.changed(batch_size=4, n_devices=2)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Let processes be forked, as in a notebook: a new one imports everything again, which takes ten seconds."""
    monkeypatch.setattr(lightning_steps, "_in_notebook", lambda: True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A training with two processes, and its folder, where each notes the numbers of the crops that it draws."""
    folder = tmp_path_factory.mktemp("two")
    drawn = crop_sampling.crop_draw

    def noted(seed, draw, *arguments):
        with (folder / f"rank_{torch.distributed.get_rank()}.draws").open("a") as notes:
            notes.write(f"{draw}\n")
        return drawn(seed, draw, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning_steps, "_in_notebook", lambda: True)
        patch.setattr(crop_sampling, "crop_draw", noted)
        return train_network(TINY_DESIGN, TWO, toy_set(), folder), folder


def test_each_process_draws_its_share_of_every_step(undisturbed):
    _, folder = undisturbed
    shares = [[int(line) for line in (folder / f"rank_{rank}.draws").read_text().split()] for rank in (0, 1)]
    n_crops = TWO.n_steps * TWO.batch_size
    assert shares == [list(range(0, n_crops, 2)), list(range(1, n_crops, 2))]


def test_rows_are_written_once(undisturbed):
    trained, _ = undisturbed
    assert trained.curves["step"] == list(range(1, TWO.n_steps + 1))
    assert trained.validation["step"] == [3, 6]


def test_a_step_goes_down_the_mean_of_the_gradients_of_all_processes(tmp_path):
    plan = TWO.changed(n_steps=1, warm_up_steps=0, schedule="constant", gradient_clip=1e-4)
    trained = train_network(TINY_DESIGN, plan, toy_set(), tmp_path)
    start = build_network(TINY_DESIGN, seed=plan.seed)
    copies = [deepcopy(start), deepcopy(start)]
    for rank, network in enumerate(copies):
        task = MembraneTask(plan, toy_set().train)
        task.losses(network, task.prepared(task.batches(rank, 2)[0]), 0)["loss"].backward()
    parameters = list(start.parameters())
    for parameter, *theirs in zip(parameters, *(network.parameters() for network in copies), strict=True):
        parameter.grad = (theirs[0].grad + theirs[1].grad) / 2
    torch.nn.utils.clip_grad_norm_(parameters, plan.gradient_clip)
    torch.optim.Adam(parameters, lr=plan.learning_rate).step()
    for parameter, found in zip(parameters, trained.network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter, atol=1e-4, rtol=0)  # a hundredth of a step


@pytest.mark.slow
def test_killed_with_two_processes_it_ends_with_the_same_bits(tmp_path):
    """Nor do they wait for the threads of the process that was forked, which it has here."""
    done = subprocess.run(
        [sys.executable, killed.__file__, str(tmp_path), "2", "1", "0.1", "0", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(report["kills"].values()) == 2
    assert report["lost"] == []


def test_an_error_of_one_process_is_one_sentence(tmp_path):
    plan = TWO.changed(learning_rate=1e30, schedule="constant", warm_up_steps=0, n_steps=40)
    with pytest.raises(UsageError, match=r"^the loss must stay finite; it was nan at step .* take bf16 or fp32\.$"):
        train_network(TINY_DESIGN, plan, toy_set(), tmp_path)
