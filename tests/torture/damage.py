"""Every region of what a finished run has written, damaged: refused in one line, or loads to the same bits.

The files of an encoder with its head are given to ``embed`` and ``finetune``; ``last.ckpt`` and the JSON files of a run
folder are given to the command that wrote them, which is told to go on.
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
    """One bit turned."""
    return lambda content: content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def blotted(at: int, length: int, value: int) -> Change:
    """A stretch of bytes overwritten with one value."""
    return lambda content: content[:at] + bytes([value]) * len(content[at : at + length]) + content[at + length :]


def cut(at: int) -> Change:
    """Nothing behind that place."""
    return lambda content: content[:at]


def longer(extra: bytes) -> Change:
    """Something behind the end."""
    return lambda content: content + extra


class Attacked:
    """A run folder, of which one file at a time is damaged."""

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
        """What a case needs a copy of."""
        return self.base / "tuned" / "encoder" if act == "load" else self.base

    def load(self, folder: Path) -> tuple[Ended, Any]:
        """How loading the encoder and its head ends, in this process, and all that they hold and say."""
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
        """How training two epochs more ends, and what came out of it."""
        done = ran(self.more, folder)
        return done, results(folder / "tuned") if done.status == 0 else None

    def damaged(self, name: str, change: Change, how: str) -> Verdict:
        """Change one file, use it, and see."""
        act = "load" if name in LOADED else "go on"
        with Copy(self.source(act), self.scratch / f"{name.replace('/', '-')} {how}") as folder:
            file = folder / name if act == "load" else folder / "tuned" / name
            content = file.read_bytes()
            changed = change(content)
            if changed == content:
                return Verdict("unchanged")
            file.write_bytes(changed)
            try:
                done, found = (self.load if act == "load" else self.go_on)(folder)
            except Exception as error:
                return fault(type(error).__name__, f"{name} {how}: {error}")
        if done.status == 2:
            return Verdict("refused") if done.one_line else fault("more than a line", f"{name} {how}: {done.err}")
        if done.status != 0:
            return fault(f"status {done.status}", f"{name} {how}: {(done.err.splitlines() or [''])[-1]}")
        if act == "load":
            same, where = found == self.expected[act], _first_difference(self.expected[act], found)
        else:
            where = difference(self.expected[act], found)
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
    """Regions of every file; in the large form every byte of an encoder's files."""
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
    """What is done to a file, in words and as a function."""
    size = len(content)
    for at in places(name, size, large, draw):
        bit = draw.randrange(8)
        yield f"bit {bit} of byte {at}", flipped(at, bit)
    for _ in range(64 if large and name in LOADED else 16 if large else 2):
        at, length, value = draw.randrange(size), draw.choice((2, 8, 64, 512)), draw.choice((0, 255, 32, 48))
        yield f"{length} bytes from {at} are {value}", blotted(at, length, value)
    for at in sorted({0, 1, size - 1, *(draw.randrange(size) for _ in range(16 if large else 1))}):
        yield f"cut at {at}", cut(at)
    for how, extra in {"a blank more": b" ", "a zero more": b"\0", "twice": content}.items():
        yield how, longer(extra)


def places(name: str, size: int, large: bool, draw: Random) -> Iterator[int]:
    """One byte of every region: of each byte of a small file in the large form, if a load is all that it costs."""
    if name in LOADED:
        regions = min(size, 16384) if large else 48
    else:
        regions = (160 if name.endswith(".ckpt") else 48) if large else 4
    for i in range(regions):
        low, high = i * size // regions, max((i + 1) * size // regions, i * size // regions + 1)
        yield draw.randrange(low, min(high, size)) if high - low > 1 else low
