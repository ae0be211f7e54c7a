"""Registration of the operators ``torch.ops.geo3d.*``: one schema, and an implementation for each kind of device."""

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("geo3d", "FRAGMENT")

Function = Callable[..., Any]


def define(
    schema: str,
    *,
    cpu: Function,
    fake: Function,
    cuda: Function | None = None,
    backward: Function | None = None,
    setup: Function | None = None,
) -> Any:
    """The new operator ``torch.ops.geo3d.NAME``.

    Args:
        schema: In torch's syntax, ``"knn(Tensor x, Tensor ptr, int k) -> Tensor"``.
        cpu: Implementation for the CPU: the compiled kernel where it runs, else the torch reference.
        fake: Makes outputs of the right shape and type without values, for ``torch.compile``.
        cuda: Implementation for a GPU, by default the one for the CPU.
        backward: ``backward(ctx, *gradients_of_outputs)`` returns the gradients of the inputs, None where there is
            none.
        setup: ``setup(ctx, inputs, output)`` saves what ``backward`` needs.
    """
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, cpu, "CPU")
    _library.impl(name, cuda or cpu, "CUDA")
    torch.library.register_fake(f"geo3d::{name}", fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(f"geo3d::{name}", backward, setup_context=setup, lib=_library)
    return getattr(torch.ops.geo3d, name)
