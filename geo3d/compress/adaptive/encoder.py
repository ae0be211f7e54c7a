"""One set of DGCNN weights for many speeds: width, depth, neighbours and points are chosen when the encoder is run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from itertools import product
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch_geometric.data import Batch, Data

from geo3d.checks import Length, Points, Range, checked
from geo3d.cloud import Features
from geo3d.compress.adaptive.slices import (
    Setting,
    check_choices,
    farthest_subset,
    leading,
    own_quantizers,
    remaining,
    slice_encoder,
    structured,
)
from geo3d.compress.adaptive.training import Statistics, disagreement, imitation, logits_of, sample_settings
from geo3d.compress.record import copied, records
from geo3d.encoders.dgcnn import DGCNN
from geo3d.encoders.inputs import input_batch
from geo3d.errors import ConfigError
from geo3d.nn.norm import BatchNorm

NAMES = ("widths", "depths", "ks", "points")


class Adaptive(nn.Module):
    """A DGCNN whose leading channels and first layers also work as smaller encoders.

    A sub-network of width w and depth d consists of the first d edge convolutions, with the leading fraction w of their
    channels and of the embedding's. Its parameters are slices of the full ones (slimmable networks, arXiv 1812.08928
    and 1903.05134; the cloud features are nested, arXiv 2205.13147). k and the number of points do not affect the
    weights. Every setting has its own BatchNorm statistics. Sub-networks round weights with the full encoder's steps;
    each (width, depth) has its own activation quantizers.

    Features of smaller settings are padded with zeros to the full number of channels, with each channel at its place,
    so that one head serves all settings. ``Features.point`` has one row per point that is used, in farthest-point order
    where points are left out.

    In training, ``forward`` returns the features of the largest setting, and :meth:`extra_loss` trains the others. In
    evaluation, ``forward`` returns the features of the setting last chosen by :meth:`use`.

    Args:
        inner: The full encoder, which is wrapped, not copied; its statistics are those of the largest setting.
        widths: Fractions of the channels; 1 must be among them. By default (0.25, 0.5, 1), or (1,) for a structured
            encoder.
        depths: Numbers of edge convolutions; the encoder's own number must be among them. By default all numbers from
            2 on, or only the encoder's own for a structured encoder.
        ks: Numbers of neighbours.
        points: Largest numbers of points per cloud; farthest-point sampling reduces larger clouds.

    Attributes:
        settings: All settings, the largest first and the smallest last.
        setting: The setting in use.

    Raises:
        ConfigError: If the encoder is not a DGCNN, a choice does not fit it, or a structured encoder is given several
            widths or depths.

    Example:
        >>> adaptive = Adaptive(DGCNN(channels=(16, 16), embedding=32), widths=(0.5, 1), ks=(4, 8), points=(16, 32))
        >>> len(adaptive.settings), str(adaptive.settings[0]), str(adaptive.settings[-1])
        (8, 'w1-d2-k8-n32', 'w0.5-d2-k4-n16')
        >>> adaptive.subnet(adaptive.settings[-1]).channels
        (8, 8)
    """

    def __init__(
        self,
        inner: Any,
        widths: Sequence[float] | None = None,
        depths: Sequence[int] | None = None,
        ks: Sequence[int] = (10, 20),
        points: Sequence[int] = (256, 512),
    ) -> None:
        super().__init__()
        if not isinstance(inner, DGCNN):
            raise ConfigError(f"adapt needs a DGCNN, whose layers it can narrow; found a {type(inner).__name__}")
        depth, fixed = len(inner.layers), structured(inner)
        widths = ((1.0,) if fixed else (0.25, 0.5, 1.0)) if widths is None else widths
        depths = ((depth,) if fixed else range(min(2, depth), depth + 1)) if depths is None else depths
        values: list[list[Any]] = [sorted(set(each), reverse=True) for each in (widths, depths, ks, points)]
        check_choices(inner, *values)
        self.widths, self.depths, self.ks, self.points = (tuple(each[::-1]) for each in values)
        self.inner = inner
        self.point_channels, self.cloud_channels = inner.point_channels, inner.cloud_channels
        self.level_channels, self.in_channels, self.inputs = inner.level_channels, inner.in_channels, inner.inputs
        self.settings = [Setting(*each) for each in product(*values)]
        self.setting = self.settings[0]
        # One DGCNN without weights per smaller shape; a plain dict keeps them from being registered as submodules.
        shapes = dict.fromkeys(setting[:2] for setting in self.settings if setting[:2] != self.setting[:2])
        self._forms = {(width, depth): slice_encoder(inner, width, depth) for width, depth in shapes}
        self.quantizers = nn.ModuleList(nn.ModuleDict(own_quantizers(form)) for form in self._forms.values())
        self.statistics: Any = nn.ModuleList(Statistics(inner, self._form(setting)) for setting in self.settings[1:])
        self.compression = [*records(inner), {"step": "adapt"} | {name: list(getattr(self, name)) for name in NAMES}]

    def use(self, setting: Setting) -> "Adaptive":
        """The same adaptive encoder, with this setting selected for evaluation.

        Raises:
            ConfigError: If the setting is not one of ``settings``.
        """
        self.setting = self.settings[self._number(setting)]
        return self

    def forward(self, data: Data) -> Features:
        """(M', point_channels) and (B, cloud_channels) features of the selected, in training of the largest setting."""
        setting = self.settings[0] if self.training else self.setting
        return self.encode(setting, farthest_subset(input_batch(data), [setting.num_points])[setting.num_points])

    def encode(self, setting: Setting, batch: Batch) -> Features:
        """Features of the batch, all points used, from the sub-network of a setting in the encoder's current mode."""
        form = copy(self._form(setting))  # a shallow copy has its own k and shares the layers
        form.k = setting.k
        if setting[:2] in self._forms:
            for name, module in form.named_modules():
                like = self.inner.get_submodule(name)
                if not name.endswith(".quantizer"):  # only the full encoder sets the steps of weights
                    module.training = like.training
                if isinstance(module, BatchNorm) and isinstance(like, BatchNorm):
                    module.momentum = like.momentum
        return self.pad_features(setting, functional_call(form, self.state(setting), (batch,)))

    def state(self, setting: Setting) -> dict[str, Tensor]:
        """The tensors that run a setting's form, by name: differentiable slices of the weights, and the statistics."""
        number, form = self._number(setting), self._form(setting)
        inner: Any = self.inner
        state: dict[str, Tensor] = self.statistics[number - 1].named() if number else {}
        if form is inner:
            return state
        for i, (layer, full) in enumerate(zip(form.layers, inner.layers, strict=False)):
            both = full.linear.masked().view(full.out_channels, 2, full.in_channels)
            part = both[: layer.out_channels, :, : layer.in_channels]
            state[f"layers.{i}.linear.weight"] = part.reshape(layer.out_channels, -1)
            state |= self._shared(f"layers.{i}.norm", f"layers.{i}.linear.quantizer", layer.out_channels)
        columns = inner.embed.masked()[: form.embedding].split(inner.channels, 1)
        state["embed.weight"] = torch.cat([part[:, :c] for part, c in zip(columns, form.channels, strict=False)], 1)
        return state | self._shared("norm", "embed.quantizer", form.embedding)

    def _shared(self, norm: str, quantizer: str, count: int) -> dict[str, Tensor]:
        """The leading parameters of a norm, and the leading steps of the quantizer of the weight before it, by name."""
        full: Any = self.inner.get_submodule(norm)
        out = {f"{norm}.{name}": getattr(full, name)[:count] for name in ("weight", "bias")}
        owner, _, _ = quantizer.rpartition(".")
        rounds: Any = getattr(self.inner.get_submodule(owner), "quantizer", None)
        if rounds is None:
            return out
        steps = leading(rounds.log_step, full.num_features, count)
        return out | {f"{quantizer}.log_step": steps, f"{quantizer}.initialized": rounds.initialized}

    def pad_features(self, setting: Setting, features: Features) -> Features:
        """A sub-network's features in the full number of channels: each channel at its place, zeros elsewhere."""
        form, inner = self._form(setting), self.inner
        if form is inner:
            return features
        parts = features.point.split(form.channels, 1)
        point = [F.pad(part, (0, c - part.shape[1])) for part, c in zip(parts, inner.channels, strict=False)]
        later = sum(inner.channels[len(parts) :])
        cloud = F.pad(features.cloud.unflatten(1, (2, form.embedding)), (0, inner.embedding - form.embedding))
        return Features(F.pad(torch.cat(point, 1), (0, later)), cloud.flatten(1), features.levels)

    @torch.no_grad()
    def subnet(self, setting: Setting) -> DGCNN:
        """A stand-alone DGCNN, in evaluation mode, with copies of the setting's weights; its features are not padded.

        It uses all points it is given. To reproduce the setting, apply
        :func:`~geo3d.compress.adaptive.slices.farthest_subset` to the clouds and :meth:`pad_features` to the result.
        """
        out = deepcopy(self._form(setting))
        for path, value in self.state(setting).items():
            owner, _, name = path.rpartition(".")
            module, value = out.get_submodule(owner), value.clone(memory_format=torch.contiguous_format)
            old = getattr(module, name)
            new = nn.Parameter(value) if isinstance(old, nn.Parameter) else value
            new.__dict__.update(vars(old))  # attributes such as a step's lr_factor
            setattr(module, name, new)
        out.k = setting.k
        out.compression = remaining(self.compression, out, full=setting[:2] not in self._forms)
        return out.eval()

    def subnet_training(
        self, batch: Batch, generator: torch.Generator, count: int = 4
    ) -> list[tuple[Setting, Features]]:
        """Settings with their features: the largest, ``count - 2`` drawn at random, and the smallest.

        This is the sandwich rule of arXiv 1903.05134. All processes must draw the same settings: give their generators
        the same key.
        """
        return list(self._each(input_batch(batch), sample_settings(self.settings, count, generator)))

    def extra_loss(
        self,
        batch: Batch,
        largest: Tensor,
        generator: torch.Generator,
        head: Callable[[Tensor], Tensor] | None = None,
        count: int = 4,
        loss: Callable[[Features], Tensor] | None = None,
    ) -> Tensor:
        """() mean loss of sub-networks on the same clouds as the largest setting.

        Args:
            batch: Clouds.
            largest: (B, cloud_channels) features of these clouds from the largest setting. They are passed in because
                computing them again would update its running statistics twice in a step.
            generator: Draws the settings; it needs the same key on all processes.
            head: If None, the loss compares the cloud features, on the leading channels that the sub-network has. With
                a head, the loss is the Kullback-Leibler divergence of the softmax of its logits; the head's running
                statistics are not updated.
            count: Number of settings, including the largest, which has no loss.
            loss: The loss of a setting's features, padded to the full number of channels. If None, it is a distillation
                loss, which needs no labels, see ``head``.
        """
        batch = input_batch(batch)
        _, *others = sample_settings(self.settings, count, generator)
        if loss is not None:
            own = [loss(features) for _, features in self._each(batch, others)]
            return torch.stack(own).mean() if own else largest.new_zeros(())
        with torch.no_grad():
            target = largest.detach() if head is None else logits_of(head, largest.detach())
        losses = [
            imitation(features.cloud, target, self._form(setting).embedding)
            if head is None
            else disagreement(logits_of(head, features.cloud), target)
            for setting, features in self._each(batch, others)
        ]
        return torch.stack(losses).mean() if losses else target.new_zeros(())

    def _each(self, batch: Batch, settings: Sequence[Setting]) -> Iterator[tuple[Setting, Features]]:
        thin = farthest_subset(batch, (setting.num_points for setting in settings))
        return ((setting, self.encode(setting, thin[setting.num_points])) for setting in settings)

    def _number(self, setting: Setting) -> int:
        if setting not in self.settings:
            known = ", ".join(map(str, self.settings[:4]))
            raise ConfigError(f"the adaptive encoder has no setting {Setting(*setting)}; it has {known}, ...")
        return self.settings.index(setting)

    def _form(self, setting: Setting) -> Any:
        return self._forms.get(setting[:2], self.inner)


@checked
def adapt(
    encoder: nn.Module,
    widths: Annotated[Sequence[Annotated[float, Range(0, 1, above=True)]], Length(1, 8)] | None = None,
    depths: Annotated[Sequence[Annotated[int, Range(1, 16)]], Length(1, 16)] | None = None,
    ks: Annotated[Sequence[Annotated[int, Range(1, 1024)]], Length(1, 8)] = (10, 20),
    points: Annotated[Sequence[Points], Length(1, 8)] = (256, 512),
) -> Adaptive:
    """A copy of a DGCNN that can be run at several speeds; see :class:`Adaptive` for the arguments.

    Raises:
        ConfigError: If the encoder is already adaptive, its pruning or structure is not finalized, or :class:`Adaptive`
            refuses it.
    """
    if any(hasattr(module, "penalty") for module in encoder.modules()):
        raise ConfigError("adapt: the encoder is still being pruned or structured; call compress.finalize on it first")
    return Adaptive(copied(encoder, "adapt"), widths, depths, ks, points)


def restore(encoder: nn.Module, record: Mapping[str, Any]) -> Adaptive:
    """The encoder wrapped into the adaptive encoder that the record describes; the values are still to be loaded."""
    return Adaptive(encoder, *(record[name] for name in NAMES))


def finalize(encoder: nn.Module) -> nn.Module:
    """The encoder unchanged: there is nothing to do after training."""
    return encoder
