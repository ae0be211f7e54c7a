"""Comparison of trained encoders, in any form: accuracy, size, arithmetic, time in every engine, stages, memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d import checkpoint
from geo3d.bench.case import Case
from geo3d.bench.cost import cost, score
from geo3d.bench.engines import CannotRunError, Own, start
from geo3d.bench.exports import Form
from geo3d.bench.label import distinct, label
from geo3d.bench.memory import peak_bytes
from geo3d.bench.timing import interleaved, ratio
from geo3d.cloud import make_batch, num_clouds
from geo3d.compress import Adaptive, Setting
from geo3d.compress.adaptive.slices import farthest_subset
from geo3d.deploy.timing import percentiles

KINDS = {"structure": "structured", "prune": "pruned", "quantize": "quantised"}
OWN_FORMS = {"geo3d": "the compiled runtime", "torch": "the module as it is, eager, without compiled kernels"}
UNCOMPILED = "the module as it is, with compiled kernels; only chains of edge convolutions have a compiled runtime"
SAME, FULL = "published, same widths", "published, full"
"""Kinds of rivals: the published form with the encoder's widths, and with the published widths on all points."""
Row = dict[str, Any]
MakeRivals = Callable[[nn.Module, Batch, Callable[[Batch], Batch]], Any]
"""(encoder, clouds, function applied to them first) -> an object with the ``sizes`` and ``calls`` of the rivals."""


@dataclass(frozen=True)
class Contender:
    """One line of the table: a checkpoint, or one setting of an adaptive encoder."""

    name: str
    path: Path
    whole: nn.Module
    setting: Setting | None = None

    @property
    def kind(self) -> str:
        """float, quantised, structured, pruned, combined or adaptive."""
        steps = [record["step"] for record in getattr(self.whole, "compression", [])]
        if "adapt" in steps:
            return "adaptive"
        return "combined" if len(steps) > 1 else KINDS.get(steps[0], steps[0]) if steps else "float"

    @property
    def form(self) -> nn.Module:
        """The encoder to run; of an adaptive encoder the subnet at the setting."""
        return self.whole.subnet(self.setting) if isinstance(self.whole, Adaptive) and self.setting else self.whole

    def before(self, batch: Batch) -> Batch:
        """The batch with the number of points of the setting."""
        return (
            batch
            if self.setting is None
            else farthest_subset(batch, [self.setting.num_points])[self.setting.num_points]
        )

    @torch.no_grad()
    def features(self, batches: Iterable[Batch]) -> Tensor:
        """(n, cloud_channels) features by the encoder's own forward pass."""
        if isinstance(self.whole, Adaptive) and self.setting is not None:
            self.whole.use(self.setting)
        return torch.cat([self.whole(batch).cloud.float() for batch in batches])


def load(paths: Sequence[str | Path], settings: int = 8, names: Sequence[str] | None = None) -> list[Contender]:
    """The contenders: one per checkpoint, or for an adaptive encoder up to ``settings``, spread over its settings.

    Args:
        paths: Folders of the checkpoints.
        settings: Most settings of one adaptive encoder.
        names: One per checkpoint; by default those of :func:`geo3d.bench.label.label`.

    Raises:
        CheckpointError: If a checkpoint does not exist or cannot be read.
    """
    contenders: list[Contender] = []
    seeds: list[Any] = []
    for i, path in enumerate(paths):
        opened = checkpoint.open_checkpoint(path)
        folder, encoder, card = opened.folder, opened.encoder, opened.card
        chosen: Sequence[Setting | None] = [None]
        if isinstance(encoder, Adaptive):
            places = np.unique(np.linspace(0, len(encoder.settings) - 1, settings).round().astype(int))
            chosen = [encoder.settings[place] for place in places]
        for setting in chosen:
            name = label(encoder, card, setting)
            if names is not None:
                name = names[i] if setting is None else f"{names[i]}, {setting}"
            contenders.append(Contender(name, folder, encoder, setting))
            seeds.append(card.get("seed"))
    known = distinct([each.name for each in contenders], seeds)
    return [replace(each, name=name) for each, name in zip(contenders, known, strict=True)]


def timings(
    contenders: Sequence[Contender],
    batch: Batch,
    *,
    reference: int = 0,
    engines: Sequence[str] = ("geo3d", "torch"),
    threads: Sequence[int] = (1,),
    repeats: int = 50,
    rivals: MakeRivals | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, list[Row]], list[Row], dict[str, dict[str, float]], list[str]]:
    """Times of every contender in every engine, measured in turn; times of stages; notes on what cannot run.

    Returns:
        (rows, rivals, stages, notes).

        ``rows``: name of the contender -> rows of ``engine``, ``threads``, ``form`` (the timed form, in words),
        ``export`` (the :class:`Form` of an exported encoder, as a dictionary), ``p50_ms``, ``p95_ms``, ``ratio`` (how
        many times faster than the reference in the same engine on as many threads; None if that did not run),
        ``over_published`` (how many times faster than each kind of rival; empty without rivals) and ``difference``
        (relative difference of the cloud features from those of the encoder's own forward pass).

        ``rivals``: rows of the rivals. ``stages``: name -> milliseconds of each stage in geo3d's runtime on the first
        number of threads, which add up to its median. ``notes``: what could not be run.
    """
    rows: dict[str, list[Row]] = {contender.name: [] for contender in contenders}
    eager: list[Row] = []
    spent: dict[str, dict[str, float]] = {}
    notes: dict[str, None] = {}
    against = {each.name: rivals(each.form, batch, each.before) for each in contenders} if rivals else {}
    full = {each.sizes.get(FULL) for each in against.values()}
    before = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        try:
            for count in threads:
                torch.set_num_threads(count)
                calls, refused = _started(contenders, engines, batch, count, Path(folder))
                notes |= dict.fromkeys(refused)
                others = {size: call for each in against.values() for size, call in each.calls.items()}
                calls |= others
                say(f"timing {len(calls)} contenders on {count} thread{'s' * (count > 1)}, {repeats} rounds")
                times = interleaved(calls, repeats, 0.0)
                for contender in contenders:
                    own = {name: calls[key] for name in engines if (key := (contender.name, name)) in calls}
                    sizes = against[contender.name].sizes if against else {}
                    for row in _rows(contender, own, batch, times, contenders[reference].name, count):
                        taken = times[contender.name, row["engine"]]
                        over = {kind: ratio(times[size], taken) for kind, size in sizes.items()}
                        rows[contender.name].append(row | {"over_published": over})
                    if count == threads[0] and "geo3d" in own:
                        spent[contender.name] = _stages(own["geo3d"], rows[contender.name])
                eager += [
                    {"name": size, "full": size in full, "engine": "torch", "threads": count, **_spread(times[size])}
                    for size in others
                ]
        finally:
            torch.set_num_threads(before)
    return rows, eager, spent, list(notes)


def _started(
    contenders: Sequence[Contender], engines: Sequence[str], batch: Batch, count: int, folder: Path
) -> tuple[dict[Any, Any], list[str]]:
    """The calls by name and engine, and messages about those that cannot run."""
    calls: dict[Any, Any] = {}
    refused = []
    for i, each in enumerate(contenders):
        for engine in engines:
            try:
                calls[each.name, engine] = start(engine, each.form, batch, count, folder, f"model{i}", each.before)
            except CannotRunError as error:
                refused.append(f"{each.name}: {error}")
    return calls, refused


def _stages(call: Own, rows: list[Row]) -> dict[str, float]:
    return call.stages(next(row["p50_ms"] for row in rows if row["engine"] == "geo3d"))


Times = Mapping[Any, list[float]]


def _rows(
    contender: Contender, own: Mapping[str, Any], batch: Batch, times: Times, reference: str, count: int
) -> Iterator[Row]:
    with torch.no_grad():
        expected = contender.form(contender.before(batch)).cloud
    for engine, call in own.items():
        away = float((call() - expected).norm() / expected.norm())
        taken, base = times[contender.name, engine], times.get((reference, engine))
        form = getattr(call, "form", None)
        text = OWN_FORMS.get(engine, "") if getattr(call, "native", True) else UNCOMPILED
        yield {
            "engine": engine,
            "threads": count,
            "form": str(form) if isinstance(form, Form) else text,
            "export": form._asdict() if isinstance(form, Form) else None,
            **_spread(taken),
            "ratio": None if base is None else ratio(base, taken),
            "difference": away,
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {f"{name}_ms": value for name, value in percentiles(seconds)._asdict().items()}


def peak_mb(contender: Contender, engine: str, batch: Batch, threads: int, form: Form | None = None) -> float:
    """MB per cloud by which a call raises the peak memory of a separate process; an export runs in this ``form``."""
    pos, clouds = batch.pos.numpy(), num_clouds(batch)
    make = partial(memory_case, str(contender.path), contender.setting, engine, pos, clouds, threads, form)
    return peak_bytes(make, engine, threads) / clouds / 1e6


def memory_case(
    path: str,
    setting: Setting | None,
    engine: str,
    pos: np.ndarray,
    clouds: int,
    threads: int,
    form: Form | None = None,
) -> Case:
    """The case of :func:`peak_mb`, with one contender."""
    contender = Contender("", Path(path), checkpoint.load_encoder(path), setting)
    batch, folder = make_batch(torch.from_numpy(pos), num_points=len(pos) // clouds), TemporaryDirectory()
    call = start(engine, contender.form, batch, threads, Path(folder.name), before=contender.before, form=form)

    def run() -> Tensor:
        assert folder  # keeps the exported file as long as the call
        return call()

    return Case("peak", {engine: run}, engine, dict, clouds)


def sizes(contenders: Sequence[Contender], num_points: int, reference: int) -> list[Row]:
    """Parameters, arithmetic for one cloud, bytes and score of each contender."""
    costs = [cost(contender.whole, num_points, contender.setting) for contender in contenders]
    return [
        {
            "parameters": own.parameters,
            "macs": own.macs,
            "distance_macs": own.distance_macs,
            "adds": own.adds,
            "compares": own.compares,
            "operations": own.operations,
            "bytes_on_disk": sum(f.stat().st_size for f in contender.path.iterdir() if _of_encoder(f)),
            "bytes_by_bits": own.bytes,
            "score": score(own, costs[reference]),
        }
        for contender, own in zip(contenders, costs, strict=True)
    ]


def _of_encoder(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(("head", "decoder", "."))
