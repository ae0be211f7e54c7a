"""Trained encoders side by side, in any form: accuracy, size, arithmetic, time in every engine, stages, memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from geo3d.bench.inputs import dense
from geo3d.bench.memory import peak_bytes
from geo3d.bench.published_dgcnn import PublishedDGCNN
from geo3d.bench.timing import interleaved, ratio
from geo3d.cloud import make_batch, num_clouds
from geo3d.compress import Adaptive, Setting
from geo3d.compress.narrow import thinned
from geo3d.encoders import DGCNN
from geo3d.seeds import seeded

KINDS = {"structure": "structured", "prune": "pruned", "quantize": "quantised"}
PUBLISHED = "published DGCNN, eager torch"
Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One line of the table: a checkpoint, or one setting of an adaptive one."""

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
        """The encoder that does the work, a plain one at a fixed setting."""
        return self.whole.at(self.setting) if isinstance(self.whole, Adaptive) and self.setting else self.whole

    def before(self, batch: Batch) -> Batch:
        """The batch with so many points as the setting asks for."""
        return batch if self.setting is None else thinned(batch, [self.setting.num_points])[self.setting.num_points]

    @torch.no_grad()
    def features(self, batches: Iterable[Batch]) -> Tensor:
        """(n, cloud_channels) by the encoder's own forward pass."""
        if isinstance(self.whole, Adaptive) and self.setting is not None:
            self.whole.use(self.setting)
        return torch.cat([self.whole(batch).cloud.float() for batch in batches])


def load(paths: Sequence[str | Path], settings: int = 8) -> list[Contender]:
    """The contenders: one a checkpoint, at most ``settings`` for an adaptive one, spread from its largest on.

    Raises:
        CheckpointError: If a checkpoint is not there or cannot be read.
    """
    folders = [checkpoint.encoder_folder(path) for path in paths]
    runs = [folder.resolve().parent if folder.name == "encoder" else folder for folder in folders]
    names = [run.name for run in runs]
    again = Counter(names)
    found = []
    for folder, name in zip(folders, names, strict=True):
        encoder = checkpoint.load_encoder(folder).eval()
        name = str(folder) if again[name] > 1 else name
        if isinstance(encoder, Adaptive):
            which = np.unique(np.linspace(0, len(encoder.settings) - 1, settings).round().astype(int))
            found += [Contender(f"{name} {s}", folder, encoder, s) for s in (encoder.settings[i] for i in which)]
        else:
            found.append(Contender(name, folder, encoder))
    return found


def timings(
    contenders: Sequence[Contender],
    batch: Batch,
    *,
    reference: int = 0,
    engines: Sequence[str] = ("geo3d", "torch"),
    threads: Sequence[int] = (1,),
    repeats: int = 50,
    published: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, list[Row]], dict[str, dict[str, float]], list[str]]:
    """Times of every contender in every engine, all taken in turn; where the time goes; and what could not be run.

    Returns:
        By name rows of ``engine``, ``threads``, ``p50_ms``, ``p95_ms``, ``ratio`` (to the reference in the same engine
        on as many threads, None without it), ``over_published`` and ``difference`` (of the cloud features from those
        of the encoder's own forward pass, relative); by name milliseconds of each stage in geo3d's runtime on the first
        number of threads, which add up to its median; notes.
    """
    rows: dict[str, list[Row]] = {contender.name: [] for contender in contenders}
    spent: dict[str, dict[str, float]] = {}
    notes: dict[str, None] = {}
    before = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        try:
            for count in threads:
                torch.set_num_threads(count)
                calls: dict[Any, Any] = {}
                for i, contender in enumerate(contenders):
                    for engine in engines:
                        try:
                            calls[contender.name, engine] = start(
                                engine, contender.form, batch, count, Path(folder), f"model{i}", contender.before
                            )
                        except CannotRunError as error:
                            notes[f"{contender.name}: {error}"] = None
                if published:
                    calls[PUBLISHED, "torch"] = _published(batch)
                say(f"timing {len(calls)} contenders on {count} thread{'s' * (count > 1)}, {repeats} rounds")
                times = interleaved(calls, repeats, 0.0)
                for contender in contenders:
                    own = {engine: call for (name, engine), call in calls.items() if name == contender.name}
                    rows[contender.name] += _rows(contender, own, batch, times, contenders[reference].name, count)
                    if count == threads[0] and "geo3d" in own:
                        spent[contender.name] = _stages(own["geo3d"], rows[contender.name])
                if published:
                    made = _row(times, (PUBLISHED, "torch"), (contenders[reference].name, "torch"), count)
                    rows.setdefault(PUBLISHED, []).append(made)
        finally:
            torch.set_num_threads(before)
    return rows, spent, list(notes)


def _stages(call: Own, rows: list[Row]) -> dict[str, float]:
    return call.stages(next(row["p50_ms"] for row in rows if row["engine"] == "geo3d"))


def _published(batch: Batch) -> Callable[[], Tensor]:
    """The network as it was published, of the published size; its weights are random, time does not care."""
    with seeded(0, "bench", "published"):
        model = PublishedDGCNN(DGCNN()).eval()
    clouds = dense(batch)
    return torch.no_grad()(lambda: model(clouds))


Times = Mapping[Any, list[float]]


def _rows(
    contender: Contender, own: Mapping[str, Any], batch: Batch, times: Times, reference: str, count: int
) -> Iterator[Row]:
    with torch.no_grad():
        expected = contender.form(contender.before(batch)).cloud
    for engine, call in own.items():
        away = float((call() - expected).norm() / expected.norm())
        yield _row(times, (contender.name, engine), (reference, engine), count) | {"difference": away}


def _row(times: Times, key: tuple[str, str], over: tuple[str, str], count: int) -> Row:
    own, eager = times[key], times.get((PUBLISHED, "torch"))
    return {
        "engine": key[1],
        "threads": count,
        "p50_ms": 1e3 * float(np.median(own)),
        "p95_ms": 1e3 * float(np.quantile(own, 0.95)),
        "ratio": ratio(times[over], own) if over in times else None,
        "over_published": None if eager is None else ratio(eager, own),
    }


def peak_mb(contender: Contender, engine: str, batch: Batch, threads: int) -> float:
    """MB a cloud by which a first call raises the peak of a process of its own."""
    pos, clouds = batch.pos.numpy(), num_clouds(batch)
    make = partial(memory_case, str(contender.path), contender.setting, engine, pos, clouds, threads)
    return peak_bytes(make, engine, threads) / clouds / 1e6


def memory_case(path: str, setting: Setting | None, engine: str, pos: np.ndarray, clouds: int, threads: int) -> Case:
    """The one contender of that process."""
    contender = Contender("", Path(path), checkpoint.load_encoder(path), setting)
    batch, folder = make_batch(torch.from_numpy(pos), num_points=len(pos) // clouds), TemporaryDirectory()
    call = start(engine, contender.form, batch, threads, Path(folder.name), before=contender.before)

    def run() -> Tensor:
        assert folder  # keeps the exported file as long as the call
        return call()

    return Case("peak", {engine: run}, engine, dict, clouds)


def sizes(contenders: Sequence[Contender], num_points: int, reference: int) -> list[Row]:
    """Parameters, arithmetic, bytes and score of each; the arithmetic is that of one cloud."""
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
    return file.is_file() and not file.name.startswith(("head", "."))
