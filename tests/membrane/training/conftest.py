"""What tests of trainings share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """Bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of trainings that the tests of a module share."""
    return tmp_path_factory.mktemp("cells")
