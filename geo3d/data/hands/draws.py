"""Random numbers in float32, whatever torch's default dtype is."""

from functools import partial

import torch

uniform = partial(torch.rand, dtype=torch.float32)
normal = partial(torch.randn, dtype=torch.float32)
