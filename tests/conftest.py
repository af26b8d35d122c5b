"""What all tests share: array annotations are checked (`array_checks`), a small project and real data as fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import array_checks
import jaxtyping
import matplotlib as mpl
import pytest
import torch
from runs.mini_project import project, rewrite

__all__ = ["project", "real_data", "rewrite"]  # the fixtures of all tests

mpl.use("Agg")
array_checks.install()


@pytest.fixture
def real_data() -> Path:
    """The folder of the real images; tests that need it skip aloud where it is absent."""
    folder = os.environ.get("EMSEG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(
            "the real images are not here: set EMSEG_DATA to the folder that contains isbi2012/ and magc_wafer/"
        )
    return Path(folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chrome or Chromium, one for all tests of a process; installed from Debian where that is allowed."""
    from book.browser import find_browser, install_browser, launch, may_install

    executable = find_browser() or (install_browser() if may_install() else None)
    if executable is None:
        pytest.skip("NO BROWSER: install Chrome or Chromium, or name it in CHROME; the pages were not looked at")
    with launch(executable) as started:
        yield started


@pytest.fixture(scope="module")
def one_thread():
    """One thread for a whole module, what its tests share included: bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Call the library as its users do: the tests' checking of annotations would refuse bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
