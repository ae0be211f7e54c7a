"""A learned quantiser: values rounded to a few levels whose spacing and origin are trained (LSQ+, arXiv 2004.09576).

The module stores the logarithm of the step. Adam moves a parameter by about the learning rate, whatever its size, so at
one rate for all a step of 0.001 would be flung about and a step of 10 would hardly move. The logarithm changes every
step by the same fraction, and no step can become negative. The published gradient is with respect to the step; by the
chain rule the logarithm receives ``d/dlog = step * d/dstep``.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from geo3d.distributed import sum_over_processes, world_size
from geo3d.errors import ConfigError, NotFiniteError
from geo3d.nn.granularity import Columns, RowGroups
from geo3d.ops.quant.fake_quantize import fake_quantize, least_squares, quantize

SAMPLE = 1 << 16
"""About how many values the search for the first step and offset looks at; it looks at 256 rows or more."""

WEIGHT_LIMIT = 63
"""Largest code of a weight. Two products of such codes with codes up to 255 add up within 16 bits on any processor."""


class _ScaledGradient(torch.autograd.Function):
    """x unchanged; the gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


class Quantizer(nn.Module):
    """Rounds the values of a matrix (M, C) to at most ``2 ** bits`` levels, with a learned step and offset.

    The first forward pass in training mode sets both from the values it sees (:meth:`initialize`) and then sets
    ``initialized``. Make a copy that averages weights (EMA) only after that, because it averages the steps as well.

    Args:
        bits: 2 to 8.
        signed: Codes are from ``-2 ** (bits - 1)`` to ``2 ** (bits - 1) - 1``, otherwise from 0 to ``2 ** bits - 1``.
        offset: Learn a real-valued offset too.
        granularity: Which values share a step (and offset): ``RowGroups`` for weights, ``Columns`` for features.
        scale_gradient: Multiply the gradients of step and offset by ``1 / sqrt(N * qmax)``. N is the number of values
            that share a step: in a weight all values of the group, in features those of one point.
        limit: Keep codes within ``[-limit, limit]``.
        init: How the first step is found. ``"mse"``: by least squared error; ``"std"``: from mean and standard
            deviation, as LSQ+ does for weights; ``"lsq"``: from the mean magnitude, as in LSQ (arXiv 1902.08153). By
            default ``"std"`` for weights (``RowGroups``, signed, no offset), otherwise ``"mse"``. Only ``"mse"`` also
            finds an offset.

    Attributes:
        qmin: Smallest code.
        qmax: Largest code.
        log_step: (groups,) parameter, the logarithm of the step.
        shift: (groups,) parameter, the offset; None if there is none.
        initialized: () bool buffer, whether step and offset have been set.

    Raises:
        ConfigError: If an argument is out of its range, or ``init`` does not fit ``offset``.

    Example:
        >>> quantizer = Quantizer.for_activations(2)
        >>> x = torch.tensor([[0.0, 1.1, 1.9, 3.0]])
        >>> quantizer(x).shape, quantizer.codes(x).tolist()
        (torch.Size([1, 4]), [[0, 1, 2, 3]])
    """

    initialized: Tensor

    def __init__(
        self,
        bits: int,
        *,
        signed: bool,
        offset: bool,
        granularity: RowGroups | Columns,
        scale_gradient: bool = True,
        limit: int | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bits, int) or not 2 <= bits <= 8:
            raise ConfigError(f"bits must be a whole number from 2 to 8; found {bits}")
        half = 2 ** (bits - 1)
        qmin, qmax = (-half, half - 1) if signed else (0, 2 * half - 1)
        self.qmin, self.qmax = (qmin, qmax) if limit is None else (max(qmin, -limit), min(qmax, limit))
        self.bits, self.signed, self.granularity, self.scale_gradient = bits, signed, granularity, scale_gradient
        plain = signed and not offset
        self.init = init or ("std" if granularity.axis == 0 and plain else "mse")
        if self.init not in ("mse", "std", "lsq") or (self.init != "mse" and offset):
            raise ConfigError(f"init must be mse, or without an offset std or lsq; found {init}")
        self.log_step = nn.Parameter(torch.zeros(granularity.groups))
        self.shift = nn.Parameter(torch.zeros(granularity.groups)) if offset else None
        self.register_buffer("initialized", torch.tensor(False))
        self._seen_initialized = False  # a copy on the CPU, so that later calls need not wait for a GPU
        self._mark()

    @classmethod
    def for_weights(cls, bits: int, groups: int = 1, **options: Any) -> "Quantizer":
        """A quantiser for weights: signed, no offset, codes within [-63, 63], one step for each run of rows."""
        return cls(bits, signed=True, offset=False, granularity=RowGroups(groups), limit=WEIGHT_LIMIT, **options)

    @classmethod
    def for_activations(cls, bits: int, columns: int = 1, **options: Any) -> "Quantizer":
        """A quantiser for features: configuration 4, unsigned with an offset, which can be folded into the product."""
        return cls.configuration(4, bits, columns, **options)

    @classmethod
    def configuration(cls, number: int, bits: int, columns: int = 1, **options: Any) -> "Quantizer":
        """A quantiser in one of the four configurations of LSQ+ (Table 1).

        ======  ========  ============
        number  codes     offset
        ======  ========  ============
        1       unsigned  none (= LSQ)
        2       signed    none
        3       signed    learned
        4       unsigned  learned
        ======  ========  ============
        """
        if number not in (1, 2, 3, 4):
            raise ConfigError(f"LSQ+ has the configurations 1, 2, 3 and 4; found {number}")
        return cls(bits, signed=number in (2, 3), offset=number in (3, 4), granularity=Columns(columns), **options)

    @property
    def step(self) -> Tensor:
        """(groups,) distance between neighbouring levels."""
        return self.log_step.exp()

    @property
    def offset(self) -> Tensor | None:
        """(groups,) value of code 0; None if there is no offset, when code 0 means 0."""
        return self.shift

    def forward(self, x: Tensor) -> Tensor:
        """(M, C) rounded values, differentiable in x, step and offset.

        Raises:
            ConfigError: In evaluation mode, if the step has not been set yet.
            NotFiniteError: When the step is set, if x holds NaN or infinite values.
        """
        if self.training and not self._is_initialized():
            self.initialize(x)
            self._join_processes()
        self._require_initialized()
        step, offset = self.step, self.offset
        if self.scale_gradient and torch.is_grad_enabled():
            factor = self._gradient_scale(x)
            step = _ScaledGradient.apply(step, factor)
            offset = None if offset is None else _ScaledGradient.apply(offset, factor)
        return fake_quantize(x, step, offset, self.qmin, self.qmax, self.granularity.axis)

    def codes(self, x: Tensor) -> Tensor:
        """(M, C) codes of the rounded values: int8 if signed, else uint8.

        Raises:
            ConfigError: If the step has not been set yet.
            NotFiniteError: If x holds NaN (on a CPU).
        """
        self._require_initialized()
        return quantize(x, self.step, self.offset, self.qmin, self.qmax, self.granularity.axis)

    @torch.no_grad()
    def from_codes(self, codes: Tensor) -> Tensor:
        """(M, C) values of the codes, with the same bits as :meth:`forward` gives."""
        self._require_initialized()
        values = codes.to(self.log_step.dtype) * self._against(self.step, codes)
        return values if self.shift is None else values + self._against(self.shift, codes)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set step and offset from the values (M, C), by the method that ``init`` names.

        Raises:
            NotFiniteError: If x holds NaN or infinite values.
            ConfigError: If x has no values, or the groups do not divide its rows or match its columns.
        """
        self._check_groups(x)
        x = x.detach().to(self.log_step.dtype)
        if not bool(x.isfinite().all()):
            raise NotFiniteError(
                "the values to be quantised hold NaN or infinite values; find the layer or data they come from"
            )
        values = self._by_group(self._sample(x) if self.init == "mse" else x)
        if self.init == "std":
            step, offset = self._from_std(values), None
        elif self.init == "lsq":
            step, offset = 2 * values.abs().mean(1) / math.sqrt(self.qmax), None
        else:
            step, offset = least_squares(values, self.qmin, self.qmax, self.shift is not None)
        largest = step.max()
        step = torch.where(step > 0, step, torch.where(largest > 0, largest, torch.ones_like(largest)))
        self.log_step.copy_(step.log())
        if self.shift is not None and offset is not None:
            self.shift.copy_(offset)
        self.initialized.fill_(True)
        self._seen_initialized = True

    def _from_std(self, values: Tensor) -> Tensor:
        """(groups,) step with which the last code is three standard deviations from the mean: LSQ+ for weights."""
        mean, std = values.mean(1), values.std(1, unbiased=False)
        # The paper divides by half the number of codes. Where the codes are limited to [-63, 63] we divide by qmax: at
        # 8 bits half of the codes are missing, and 128 would clip everything beyond one and a half standard deviations.
        half = 2 ** (self.bits - 1)
        levels = half if self.qmin == -half else self.qmax
        return torch.maximum((mean - 3 * std).abs(), (mean + 3 * std).abs()) / levels

    def _check_groups(self, x: Tensor) -> None:
        if x.dim() != 2 or x.numel() == 0 or not self.granularity.fits(*x.shape):
            raise ConfigError(
                f"a quantiser with {self.granularity} needs values (M, C) with "
                f"{'one column' if self.granularity.axis else 'equally many rows'} per group; found {tuple(x.shape)}"
            )

    def _sample(self, x: Tensor) -> Tensor:
        """Every n-th row of each run of rows; complete rows, so that all columns are seen equally often."""
        runs = x.reshape(1 if self.granularity.axis else self.granularity.groups, -1, x.shape[1])
        stride = min(-(-x.numel() // SAMPLE), -(-runs.shape[1] // 256))
        return runs[:, ::stride].reshape(-1, x.shape[1])

    def _by_group(self, x: Tensor) -> Tensor:
        """(groups, values per group) of the matrix x."""
        by_column = self.granularity.axis == 1 and self.granularity.groups > 1
        return x.t().contiguous() if by_column else x.reshape(self.granularity.groups, -1)

    def _against(self, values: Tensor, x: Tensor) -> Tensor:
        if self.granularity.axis == 1 or self.granularity.groups == 1:
            return values
        return values.repeat_interleave(len(x) // self.granularity.groups)[:, None]

    def _gradient_scale(self, x: Tensor) -> float:
        values = x.shape[1] if self.granularity.axis else x.shape[0] * x.shape[1]
        return 1 / math.sqrt(max(1, values // self.granularity.groups) * self.qmax)

    def _join_processes(self) -> None:
        """Replace step and offset by their means over all processes, each of which found its own from its batch."""
        if world_size() > 1:
            for parameter in self.parameters():
                parameter.data.copy_(sum_over_processes(parameter.data) / world_size())

    def _is_initialized(self) -> bool:
        if not self._seen_initialized:
            self._seen_initialized = bool(self.initialized)
        return self._seen_initialized

    def _require_initialized(self) -> None:
        if not self._is_initialized():
            raise ConfigError("a quantiser has no step yet: run it once in training mode, or call compress.calibrate")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._seen_initialized = not self.initialized.is_meta and bool(self.initialized)
        self._mark()

    def _mark(self) -> None:
        for parameter in self.parameters():
            parameter.lr_factor = 1.0  # type: ignore[attr-defined]  # a separate optimiser group, without weight decay

    def __setstate__(self, state: dict[str, Any]) -> None:  # copied and unpickled parameters lose their attributes
        super().__setstate__(state)
        self._mark()

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        parts = [f"bits={self.bits}", f"codes=[{self.qmin}, {self.qmax}]", str(self.granularity)]
        parts += ["offset"] if self.shift is not None else []
        return ", ".join(parts)
