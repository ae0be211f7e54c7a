"""The summary of the shards of a split, for ``store.json``."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geo3d.data.store.description import targets_as_json
from geo3d.data.store.shard import ABOUT, about_shard, array_bytes, file_sum, shard_folder
from geo3d.data.targets import labels_of, targets_of
from geo3d.errors import CloudError

LISTED = 100
"""At most this many messages about clouds that were left out are kept in ``store.json``."""


def summary(out: Path, split: str, dataset: Any, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What ``store.json`` says of a split whose shards are all there.

    Raises:
        CloudError: If all clouds are damaged, or a field has another form in one shard than in another.
    """
    size = plan["splits"][split]["clouds_per_shard"]
    folders = [shard_folder(out, split, number) for number in range(-(-len(dataset) // size))]
    abouts = [about_shard(folder) for folder in folders]
    clouds = sum(about["clouds"] for about in abouts)
    skipped = [message for about in abouts for message in about["skipped"]]
    if not clouds:
        raise CloudError(f"out={out}: all {len(skipped)} clouds of {split} are damaged; the first: {skipped[0]}")
    shards = [
        {
            "clouds": about["clouds"],
            "points": about["points"],
            "bytes": array_bytes(folder),
            "sha256": file_sum(folder / ABOUT),
        }
        for folder, about in zip(folders, abouts, strict=True)
    ]
    return dict(plan["splits"][split]) | {
        "clouds": clouds,
        "points": sum(about["points"] for about in abouts),
        "skipped": len(skipped),
        "messages": skipped[:LISTED],
        "classes": list(getattr(dataset, "classes", None) or ()),
        "labels": labels_of(dataset) is not None,
        "targets": targets_as_json(targets_of(dataset)),
        "fields": _common_fields(folders, abouts),
        "point_labels": _summed([about["point_labels"] for about in abouts if about["clouds"]]),
        "sha256": _sum_of(shards),
        "shards": shards,
    }


def _sum_of(shards: Sequence[dict[str, Any]]) -> str:
    """One SHA-256 for the content of all shards of a split."""
    return hashlib.sha256("".join(each["sha256"] for each in shards).encode()).hexdigest()


def _common_fields(folders: Sequence[Path], abouts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The form of each field.

    Raises:
        CloudError: If it differs between shards.
    """
    fields: dict[str, Any] = {}
    for folder, about in zip(folders, abouts, strict=True):
        for name, form in about["fields"].items():
            if fields.setdefault(name, form) != form:
                there, here = fields[name], form
                raise CloudError(
                    f"{folder}: {name} is {here['dtype']} {here['shape']}, but {there['dtype']} {there['shape']} in "
                    "shards before it; a store needs one form; mend the data and prepare in an empty folder"
                )
    return fields


def _summed(counts: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    """The sums of the counts of each label, by label; None if one of them is None."""
    total: dict[str, int] = {}
    for each in counts:
        if each is None:
            return None
        for label, count in each.items():
            total[label] = total.get(label, 0) + count
    return {label: total[label] for label in sorted(total, key=int)}
