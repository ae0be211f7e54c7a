"""Batch normalisation over flat rows, with batch statistics that can be taken over all processes."""

import torch
from torch import Tensor, nn

from geo3d.distributed import sum_over_processes, world_size


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` for rows (M, C) that can take its batch statistics over all processes, on the CPU too.

    torch's SyncBatchNorm refuses the CPU. Parameters, buffers and results are those of ``nn.BatchNorm1d``.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: How far each batch moves the running statistics; None averages all batches.
        sync: Take the batch statistics over the rows of all processes.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, sync: bool = True) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.sync = sync

    @property
    def shared(self) -> bool:
        """Whether the statistics of this step are taken over several processes."""
        return self.training and self.sync and world_size() > 1

    def forward(self, x: Tensor) -> Tensor:
        """(M, C) normalised rows."""
        if not self.shared:
            return super().forward(x)
        dtype = x.dtype
        if dtype in (torch.float16, torch.bfloat16):  # too few digits for sums and counts
            x = x.float()
        count, total = self.joined(x.new_full((), x.shape[0]), x.sum(0))
        mean = total / count
        (squares,) = self.joined(((x - mean) ** 2).sum(0))
        var = squares / count
        self.update(mean, var, count)
        return ((x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias).to(dtype)

    def folded(self) -> tuple[Tensor, Tensor]:
        """(C,) scale and shift of ``norm(x) = scale x + shift`` with the running statistics, differentiable."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def joined(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """The given sums, added up over all processes if the statistics of this step are shared."""
        return tuple(sum_over_processes(s) for s in sums) if self.shared else sums

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, count: Tensor | float) -> None:
        """Move the running statistics towards ``mean`` and the biased ``var`` of ``count`` rows, as torch does."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if self.momentum is None:
            weight = 1.0 / self.num_batches_tracked.to(mean.dtype)
        else:
            weight = torch.as_tensor(self.momentum, dtype=mean.dtype, device=mean.device)
        # No branch on a tensor: when torch.compile traces ragged clouds the count is not known.
        fewer = max(count - 1, 1.0) if isinstance(count, float) else count - 1
        unbiased = var * (count / fewer)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight.to(self.running_mean.dtype))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight.to(self.running_var.dtype))
