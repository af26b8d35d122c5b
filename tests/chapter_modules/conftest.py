"""What the tests of several chapter modules share."""

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of trainings that the tests of this module share."""
    return tmp_path_factory.mktemp("cells")
