"""A short slice of the fuzz of all readers; the whole is `python tests/fuzz_readers.py`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_readers import Reader, failure_of

SCRIPT = Path(__file__).with_name("fuzz_readers.py")
FAULTS: dict[str, Callable[[Path], object]] = {
    "KeyError": lambda path: {}[path],
    "TooSlowError: more than 0.1 s": lambda _: [None for _ in iter(int, 1)],
}


def test_mutated_files_give_a_result_or_a_sentence_of_ours():
    command = [sys.executable, str(SCRIPT), "--n", "200", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("200 inputs, "), done.stdout


@pytest.mark.parametrize("name", FAULTS)
def test_the_fuzz_reports_what_a_reader_must_not_do(name, tmp_path):
    found = failure_of(Reader("", "", FAULTS[name], []), tmp_path / "x", 0.1)
    assert found is not None
    assert found.startswith(name)
