"""Fake quantisation with a learned step and a learned offset: LSQ+ (arXiv 2004.09576), forward and backward.

With ``t = (x - offset) / step`` the code is ``round(clamp(t, qmin, qmax))``, rounded half to even, and the rounded
value is ``code * step + offset``. The code is always that of a true division. A product with ``1 / step`` can differ in
the last bit, and so move a value midway between two codes to the other code. So the compiled kernels, torch and the
layers on codes agree bit for bit.
"""

from typing import Any

import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device
from geo3d.ops.edge.gather import blocks
from geo3d.ops.library import define

COARSE, FINE, FEW, TURNS = 17, 9, 6, 10  # for least_squares: sizes of both grids, candidates to refine, refinements


def _spread(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """(1,), (C,) or (M, 1) the groups' values, which broadcast with ``x`` (M, C)."""
    if axis == 1 or len(values) == 1:
        return values
    return values.repeat_interleave(len(x) // len(values))[:, None]


def _position(x: Tensor, step: Tensor, offset: Tensor | None) -> Tensor:
    return x / step if offset is None else (x - offset).div_(step)


def _rounded(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int) -> Tensor:
    """The definition of ``geo3d::fake_quantize``."""
    step = _spread(step, x, axis)
    offset = None if offset is None else _spread(offset, x, axis)
    code = _position(x, step, offset).clamp_(qmin, qmax).round_()
    return code.mul_(step).add_(0.0 if offset is None else offset)  # adding 0 turns -0 into 0, as an integer code does


def _gradients(
    grad: Tensor, x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition of ``geo3d::fake_quantize_backward``."""
    groups, by_column = len(step), axis == 1 and len(step) > 1
    step = _spread(step, x, axis)
    offset = None if offset is None else _spread(offset, x, axis)
    of_x = torch.empty_like(x)
    parts: list[list[Tensor]] = [[], []]  # for step and offset, one for each block of rows
    for block in blocks(x) or [slice(0)]:
        t = _position(x[block], _part(step, block), None if offset is None else _part(offset, block))
        # Whether a value is inside, as 0 or 1 in its own type: far faster than booleans and torch.where.
        inside = torch.gt(t, qmin, out=torch.empty_like(t)).mul_(torch.lt(t, qmax, out=torch.empty_like(t)))
        code = t.clamp_(qmin, qmax)  # inside, this is t itself
        of_step = code.round().addcmul_(inside, code, value=-1).mul_(grad[block])
        torch.mul(grad[block], inside, out=of_x[block])
        for part, values in zip(parts, (of_step, grad[block] - of_x[block]), strict=True):
            part.append(values.sum(0) if by_column else values.sum(1))
    of_step, of_offset = (
        torch.stack(part).sum(0) if by_column else torch.cat(part).view(groups, -1).sum(1) for part in parts
    )
    return of_x, of_step, of_offset


def _part(values: Tensor, block: slice) -> Tensor:
    return values if values.dim() == 1 else values[block]


def _codes(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int) -> Tensor:
    """The definition of ``geo3d::quantize``."""
    t = _position(x, _spread(step, x, axis), None if offset is None else _spread(offset, x, axis))
    if t.device.type == "cpu" and bool(t.isnan().any()):
        raise native.error(native.NOT_FINITE, "x")
    return t.clamp_(qmin, qmax).round_().to(_code_type(qmin))


def _code_type(qmin: int) -> torch.dtype:
    return torch.uint8 if qmin >= 0 else torch.int8


def _layout(x: Tensor, step: Tensor, axis: int) -> tuple[int, int, int, int]:
    return *x.shape, len(step), int(axis == 1 and len(step) > 1)


def _rounded_on_cpu(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int) -> Tensor:
    if not _native(x, step, offset):
        return _rounded(x, step, offset, qmin, qmax, axis)
    x, step, offset = x.contiguous(), step.contiguous(), None if offset is None else offset.contiguous()
    out = torch.empty_like(x)
    native.call("fake_quantize", *_layout(x, step, axis), x, step, offset, float(qmin), float(qmax), out)
    return out


def _gradients_on_cpu(
    grad: Tensor, x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    if not _native(x, step, offset) or grad.dtype != x.dtype:
        return _gradients(grad, x, step, offset, qmin, qmax, axis)
    grad, x, step = grad.contiguous(), x.contiguous(), step.contiguous()
    offset = None if offset is None else offset.contiguous()
    outs = torch.empty_like(x), torch.empty_like(step), torch.empty_like(step)
    layout = _layout(x, step, axis)
    native.call("fake_quantize_backward", *layout, grad, x, step, offset, float(qmin), float(qmax), *outs)
    return outs


def _codes_on_cpu(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int) -> Tensor:
    if not _native(x, step, offset):
        return _codes(x, step, offset, qmin, qmax, axis)
    x, step, offset = x.contiguous(), step.contiguous(), None if offset is None else offset.contiguous()
    codes = torch.empty_like(x, dtype=_code_type(qmin))
    bytes_ = codes.view(torch.uint8)  # the kernel writes signed codes if qmin is negative
    native.call("quantize", *_layout(x, step, axis), x, step, offset, float(qmin), float(qmax), bytes_, what="x")
    return codes


def _native(x: Tensor, step: Tensor, offset: Tensor | None) -> bool:
    given = (x, step) if offset is None else (x, step, offset)
    return native.usable(*given) and all(t.dtype == torch.float32 for t in given)


define(
    "fake_quantize_backward(Tensor grad, Tensor x, Tensor step, Tensor? offset, int qmin, int qmax, int axis)"
    " -> (Tensor, Tensor, Tensor)",
    cpu=_gradients_on_cpu,
    cuda=_gradients,
    fake=lambda grad, x, step, *_: (x.new_empty(x.shape), torch.empty_like(step), torch.empty_like(step)),
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, step, offset, *ctx.rest = inputs
    ctx.save_for_backward(x, step, offset)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, step, offset = ctx.saved_tensors
    of_x, of_step, of_offset = torch.ops.geo3d.fake_quantize_backward(grad, x, step, offset, *ctx.rest)
    return of_x, of_step, None if offset is None else of_offset, None, None, None


_fake_quantize = define(
    "fake_quantize(Tensor x, Tensor step, Tensor? offset, int qmin, int qmax, int axis) -> Tensor",
    cpu=_rounded_on_cpu,
    cuda=_rounded,
    fake=lambda x, *_: x.new_empty(x.shape),
    backward=_backward,
    setup=_keep,
)
_quantize = define(
    "quantize(Tensor x, Tensor step, Tensor? offset, int qmin, int qmax, int axis) -> Tensor",
    cpu=_codes_on_cpu,
    cuda=_codes,
    fake=lambda x, step, offset, qmin, *_: x.new_empty(x.shape, dtype=_code_type(qmin)),
)


def _check(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int) -> None:
    groups = step.shape[0] if step.dim() == 1 else 0
    check_device("x, step and offset", x, step, offset)
    fits = x.dim() == 2 and groups > 0 and (offset is None or offset.shape == step.shape) and axis in (0, 1)
    if not fits or (groups > 1 and (x.shape[1] != groups if axis == 1 else x.shape[0] % groups)):
        raise CloudError(
            "rounding needs x (M, C), and step and offset (G,): one for all, one for each column (axis 1) or one for "
            f"each of G equal runs of rows (axis 0); found {tuple(x.shape)}, {tuple(step.shape)}, "
            f"{None if offset is None else tuple(offset.shape)} and axis {axis}"
        )
    if not (0 <= qmin < qmax <= 255 or -128 <= qmin < 0 < qmax <= 127):
        raise CloudError(f"codes must lie within [0, 255] or within [-128, 127]; found [{qmin}, {qmax}]")


def fake_quantize(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int = 0) -> Tensor:
    """(M, C) ``round(clamp((x - offset) / step, qmin, qmax)) * step + offset``, half to even, in the type of ``step``.

    Differentiable in ``x``, ``step`` and ``offset`` by the rules of LSQ+, with ``t = (x - offset) / step``:

    ========  =====================  =======================================
    gradient  where qmin < t < qmax  elsewhere
    ========  =====================  =======================================
    x         1                      0
    step      round(t) - t           qmin or qmax, whichever is nearer to t
    offset    0                      1
    ========  =====================  =======================================

    Args:
        x: (M, C).
        step: (G,) positive: one for all, one for each of G equal runs of rows (``axis=0``), or one for each column
            (``axis=1``).
        offset: (G,) or None.
        qmin: Smallest code.
        qmax: Largest code.
        axis: 0 if the groups are runs of rows, 1 if they are columns; has no effect if G is 1.

    Raises:
        CloudError: If shapes or codes do not fit.

    Example:
        >>> x = torch.tensor([[-0.9, 0.24, 0.26, 2.0]])
        >>> fake_quantize(x, torch.tensor([0.5]), None, -2, 1).tolist()
        [[-1.0, 0.0, 0.5, 0.5]]
    """
    _check(x, step, offset, qmin, qmax, axis)
    return _fake_quantize(x.to(step.dtype).contiguous(), step, offset, qmin, qmax, axis)


@torch.no_grad()
def quantize(x: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int, axis: int = 0) -> Tensor:
    """(M, C) the codes of :func:`fake_quantize`: uint8, or int8 where ``qmin`` is negative. No gradients.

    Raises:
        NotFiniteError: If ``x`` holds NaN (on a CPU).
        CloudError: If shapes or codes do not fit.

    Example:
        >>> x = torch.tensor([[-0.9, 0.24, 0.26, 2.0]])
        >>> quantize(x, torch.tensor([0.5]), torch.tensor([-1.0]), 0, 3)
        tensor([[0, 2, 3, 3]], dtype=torch.uint8)
    """
    _check(x, step, offset, qmin, qmax, axis)
    return _quantize(x.to(step.dtype).contiguous(), step, offset, qmin, qmax, axis)


def least_squares(values: Tensor, qmin: int, qmax: int, with_offset: bool) -> tuple[Tensor, Tensor | None]:
    """(G,) steps, and offsets if wanted, that round the values (G, V) of each group with the least squared error.

    There is no closed form. The search starts from a coarse grid of ranges, then from a fine grid around the result.
    Each time it refines the best few candidates, by turns: it takes the nearest codes for the present levels, then fits
    the levels to these codes by least squares.

    Args:
        values: (G, V) finite.
        qmin: Smallest code.
        qmax: Largest code.
        with_offset: Whether to fit the level of code 0; otherwise that level is 0.

    Returns:
        Steps, 0 for a group where any step would do (all values equal, or no codes for their sign); offsets, or None.
    """
    least, most = values.amin(1), values.amax(1)
    middle = values.mean(1).clamp(least, most) if with_offset else torch.zeros_like(least)
    values, below, above = values - middle[:, None], least - middle, most - middle
    reach = min(2.0, (qmax - qmin) / 4)  # how far the fine grid moves either end, in steps
    moves = torch.linspace(-reach, reach, FINE if with_offset else FINE**2, dtype=torch.float32).to(values)
    shrink = torch.logspace(0, -1.6, COARSE if with_offset else COARSE**2, dtype=torch.float32).to(values)
    if with_offset:
        a, b = torch.cartesian_prod(shrink, shrink).t()
        start, stop = torch.outer(a, below), torch.outer(b, above)
        step, offset = _settled(values, (stop - start) / (qmax - qmin), start, qmin, qmax)
        a, b = torch.cartesian_prod(moves, moves).t()
        steps = torch.outer(1 + (b - a) / (qmax - qmin), step)
        step, offset = _settled(values, steps, offset + torch.outer(qmin + a, step), qmin, qmax)
        return torch.where(most > least, step, 0), torch.where(most > least, offset + middle, least)
    widest = torch.maximum(above / qmax, below / qmin) if qmin else above / qmax
    step, _ = _settled(values, torch.outer(shrink, widest), None, qmin, qmax)
    step, _ = _settled(values, torch.outer(1 + moves / (qmax - qmin), step), None, qmin, qmax)
    return torch.where(widest > 0, step, 0), None


def _settled(values: Tensor, steps: Tensor, starts: Tensor | None, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
    """(G,) step and offset of the best candidate after refinement; candidates (K, G) are steps and lowest levels."""
    steps = steps.clamp_min(torch.finfo(values.dtype).tiny)
    offsets = None if starts is None else starts - qmin * steps

    def error(step: Tensor, offset: Tensor | None) -> Tensor:
        return (fake_quantize(values, step, offset, qmin, qmax) - values).square_().mean(1)

    errors = [error(steps[k], None if offsets is None else offsets[k]) for k in range(len(steps))]
    few = torch.stack(errors).topk(FEW, 0, largest=False).indices
    refined = []
    for k in few:
        step = steps.gather(0, k[None])[0]
        offset = None if offsets is None else offsets.gather(0, k[None])[0]
        for _ in range(TURNS):
            step, offset = _refitted(values, step, offset, qmin, qmax)
        refined.append((error(step, offset), step, torch.zeros_like(step) if offset is None else offset))
    error_of, step_of, offset_of = (torch.stack(parts) for parts in zip(*refined, strict=True))
    best = error_of.argmin(0, keepdim=True)
    return step_of.gather(0, best)[0], offset_of.gather(0, best)[0]


def _refitted(
    values: Tensor, step: Tensor, offset: Tensor | None, qmin: int, qmax: int
) -> tuple[Tensor, Tensor | None]:
    """(G,) step and offset that fit the codes of the present step and offset best, by least squares."""
    codes = quantize(values, step, offset, qmin, qmax).to(values.dtype)
    code, value = (codes.mean(1), values.mean(1)) if offset is not None else (torch.zeros_like(step),) * 2
    codes -= code[:, None]
    spread, joint = codes.square().mean(1), codes.mul_(values).mean(1)
    step = torch.where((spread > 0) & (joint > 0), joint / spread, step)
    return step, None if offset is None else value - step * code
