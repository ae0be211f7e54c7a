import os
from collections.abc import Iterator

# Set before torch is imported: on tensors as small as those of the tests, threads slow torch down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def same_draws_in_a_module() -> Iterator[None]:
    """Let what a module prepares draw the same numbers, whichever tests ran before in this process."""
    torch.manual_seed(0)
    yield


@pytest.fixture(autouse=True)
def same_draws() -> Iterator[None]:
    """Let each test draw the same weights, whichever tests ran before: few bits may round either way."""
    torch.manual_seed(0)
    yield
