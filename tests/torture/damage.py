"""Damages every region of the files of a finished run: geo3d must refuse the file in one line, or get equal results.

The files of an encoder and its head are loaded. ``last.ckpt`` and the other files of a run folder are given to the
``finetune`` command that wrote them, which is run again with more epochs.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from campaign import Case, Limits, Verdict, fault
from forked import Ended, ran
from kills import FINETUNE, preload, world
from run_results import difference, results

TITLE = "damaged files of a run"
LIMITS = Limits(seconds=120)
CHUNK = 8
LOADED = ("encoder.safetensors", "encoder.json", "head.safetensors")
CONTINUED = ("checkpoints/last.ckpt", "settings.json", "manifest.json", "metrics.csv", "metrics.json", "config.yaml")
Change = Callable[[bytes], bytes]


def flipped(at: int, bit: int) -> Change:
    """The change that flips one bit of one byte."""
    return lambda content: content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def blotted(at: int, length: int, value: int) -> Change:
    """The change that overwrites a range of bytes with one value."""
    return lambda content: content[:at] + bytes([value]) * len(content[at : at + length]) + content[at + length :]


def cut(at: int) -> Change:
    """The change that cuts the file off at that byte."""
    return lambda content: content[:at]


def longer(extra: bytes) -> Change:
    """The change that appends bytes."""
    return lambda content: content + extra


class Attacked:
    """A run folder in which one file at a time is damaged, and the results without damage."""

    def __init__(self, base: Path, scratch: Path) -> None:
        self.base, self.scratch = base, scratch
        self.more = [*(word for word in FINETUNE if "max_epochs" not in word), "trainer.max_epochs=4"]
        self.more += ["checkpoint=pre/encoder", "out=tuned"]
        self.expected = {}
        for name, act in (("load", self.load), ("go on", self.go_on)):
            with Copy(self.source(name), scratch / f"whole {name}") as folder:
                done, self.expected[name] = act(folder)
                assert done.status == 0, done.err

    def source(self, act: str) -> Path:
        """The folder that a case copies."""
        return self.base / "tuned" / "encoder" if act == "load" else self.base

    def load(self, folder: Path) -> tuple[Ended, Any]:
        """How loading of the encoder and its head ends in this process; features, logits and card if it succeeds."""
        from geo3d.checkpoint import load_encoder, load_head, read_card
        from geo3d.cloud import collate
        from geo3d.errors import Geo3dError
        from geo3d.io import read_cloud

        batch = collate([read_cloud(self.base / "clouds/test/ball/0.npz")])
        try:
            encoder, head, card = load_encoder(folder), load_head(folder), read_card(folder)
            with torch.no_grad():
                features = encoder(batch)
                logits = None if head is None else head(features.cloud).numpy().tobytes()
        except Geo3dError as error:
            return Ended(2, "", f"geo3d: error: {error}"), None
        return Ended(0, "", ""), (features.cloud.numpy().tobytes(), features.point.numpy().tobytes(), logits, card)

    def go_on(self, folder: Path) -> tuple[Ended, Any]:
        """How training for two more epochs ends, and the content of the run folder if it succeeds."""
        done = ran(self.more, folder)
        return done, results(folder / "tuned") if done.status == 0 else None

    def damaged(self, name: str, change: Change, how: str) -> Verdict:
        """Verdict after one file has been changed and used."""
        act = "load" if name in LOADED else "go on"
        with Copy(self.source(act), self.scratch / f"{name.replace('/', '-')} {how}") as folder:
            file = folder / name if act == "load" else folder / "tuned" / name
            content = file.read_bytes()
            changed = change(content)
            if changed == content:
                return Verdict("unchanged")
            file.write_bytes(changed)
            try:
                done, outcome = (self.load if act == "load" else self.go_on)(folder)
            except Exception as error:
                return fault(type(error).__name__, f"{name} {how}: {error}")
        if done.status == 2:
            return Verdict("refused") if done.one_line else fault("more than a line", f"{name} {how}: {done.err}")
        if done.status != 0:
            return fault(f"status {done.status}", f"{name} {how}: {(done.err.splitlines() or [''])[-1]}")
        if act == "load":
            same, where = outcome == self.expected[act], _first_difference(self.expected[act], outcome)
        else:
            where = difference(self.expected[act], outcome)
            same = not where
        return Verdict("equal") if same else fault("other results", f"{name} {how}: {where}")


class Copy:
    """A copy of a folder that is removed at the end of the block."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder

    def __enter__(self) -> Path:
        shutil.copytree(self.base, self.folder)
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _first_difference(expected: Any, found: Any) -> str:
    parts = ("features of the cloud", "features of points", "logits", "card")
    return ", ".join(part for part, a, b in zip(parts, expected, found, strict=True) if a != b)


def cases(large: bool, seed: int, scratch: Path) -> Iterator[Case]:
    """One case for each change of each file."""
    preload()
    (scratch / "base").mkdir(parents=True)
    base = world(scratch / "base")
    attacked = Attacked(base, scratch)
    for name in (*LOADED, *CONTINUED):
        file = base / "tuned" / ("encoder" if name in LOADED else "") / name
        draw = Random(f"{seed}/{name}")
        for how, change in changes(name, file.read_bytes(), large, draw):
            yield Case(f"{file.name}/{how}", partial(attacked.damaged, name, change, how))


def changes(name: str, content: bytes, large: bool, draw: Random) -> Iterator[tuple[str, Change]]:
    """Descriptions of the changes to a file, and the functions that make them."""
    size = len(content)
    for at in places(name, size, large, draw):
        bit = draw.randrange(8)
        yield f"bit {bit} of byte {at}", flipped(at, bit)
    for _ in range(64 if large and name in LOADED else 16 if large else 1):
        at, length, value = draw.randrange(size), draw.choice((2, 8, 64, 512)), draw.choice((0, 255, 32, 48))
        yield f"{length} bytes from {at} are {value}", blotted(at, length, value)
    for at in sorted({0, 1, size - 1, *(draw.randrange(size) for _ in range(16 if large else 1))}):
        yield f"cut at {at}", cut(at)
    for how, extra in {"a blank more": b" ", "a zero more": b"\0", "twice": content}.items():
        yield how, longer(extra)


def places(name: str, size: int, large: bool, draw: Random) -> Iterator[int]:
    """One random byte in each of many regions of equal size.

    There are more regions in the large form, and more for files that are only loaded: up to 16384 there, which is every
    byte of a small file.
    """
    if name in LOADED:
        regions = min(size, 16384) if large else 48
    else:
        regions = (160 if name.endswith(".ckpt") else 48) if large else 2
    for i in range(regions):
        low, high = i * size // regions, max((i + 1) * size // regions, i * size // regions + 1)
        yield draw.randrange(low, min(high, size)) if high - low > 1 else low
