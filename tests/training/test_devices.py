"""Devices, precision and memory: what is absent or insufficient is named with its repair."""

import pytest
import torch

from emseg.errors import UsageError
from emseg.training import memory_use
from emseg.training.devices import LIGHTNING_PRECISION, TORCH_PRECISION, chosen_precision, device_name, require_device
from emseg.training.memory_use import clear_memory_error, host_peak_memory_mib, peak_memory_mib

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (("tpu",), "`device` must be auto, cpu, cuda or cuda:N; got 'tpu'"),
        (("cpu:1",), "`device` must be auto, cpu, cuda or cuda:N; got 'cpu:1'"),
        (("cuda:77",), "`device` 'cuda:77' is not there: torch sees"),
        (("cpu", 1, "fp16"), "precision='fp16' needs a GPU"),
    ],
)
def test_a_device_that_is_absent_or_cannot_is_refused(request_, message):
    with pytest.raises(UsageError, match=message):
        require_device(*request_)


def test_each_process_of_torchrun_gets_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert require_device("auto") == require_device("cuda") == torch.device("cuda", 2)
    assert require_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="`n_devices` must not exceed the GPUs that torch sees, 4; got 5"):
        require_device("cuda", 5)
    with pytest.raises(UsageError, match="`n_devices` takes the first GPUs; got device='cuda:1', n_devices=2"):
        require_device("cuda:1", 2)


def test_a_precision_has_the_names_of_torch_and_lightning():
    assert chosen_precision("bf16", CPU) == "bf16"
    assert chosen_precision("auto", CPU) in ("fp32", "bf16")
    assert (TORCH_PRECISION["fp16"], LIGHTNING_PRECISION["fp16"]) == ("float16", "16-mixed")
    assert device_name(CPU) == "cpu"


def test_the_peak_on_a_cpu_is_that_of_the_process():
    before = host_peak_memory_mib()
    assert 50 < before <= peak_memory_mib(CPU) < 10**6
    assert memory_use.gpu_peak_memory_mib() is None or torch.cuda.is_initialized()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_sentence_with_its_repair(error):
    with (
        pytest.raises(UsageError, match=r"does not fit into the memory of cpu\. Use a smaller batch_size\."),
        clear_memory_error("cpu", "Use a smaller batch_size."),
    ):
        raise error


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shapes differ"), clear_memory_error("cpu", "Use less."):
        raise RuntimeError("shapes differ")
