"""A short slice of the fuzz of all readers; the whole is `python tests/fuzz_readers.py`."""

import subprocess
import sys
from pathlib import Path


def test_mutated_files_give_a_result_or_a_sentence_of_ours():
    script = Path(__file__).with_name("fuzz_readers.py")
    done = subprocess.run(
        [sys.executable, str(script), "--n", "200", "--seed", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("200 inputs, "), done.stdout
