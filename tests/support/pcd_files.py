"""A plain writer of PCD files."""

from pathlib import Path

import numpy as np

from geo3d.seeds import numpy_generator

FORMS = ["ascii", "binary", "binary_compressed"]


def lzf_compress(raw: bytes) -> bytes:
    """The bytes packed by LZF: at each position the longest earlier match, else a literal."""
    out, literals, at = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            piece = literals[start : start + 32]
            out.append(len(piece) - 1)
            out.extend(piece)
        literals.clear()

    seen: dict[bytes, int] = {}
    while at < len(raw):
        key = raw[at : at + 3]
        origin = seen.get(key, -1)
        seen[key] = at
        if len(key) < 3 or origin < 0 or at - origin > 8192:
            literals.append(raw[at])
            at += 1
            continue
        length = 3
        while length < 264 and at + length < len(raw) and raw[origin + length] == raw[at + length]:
            length += 1
        flush()
        distance, rest = at - origin - 1, length - 2
        if rest < 7:
            out.extend([rest << 5 | distance >> 8, distance & 255])
        else:
            out.extend([7 << 5 | distance >> 8, rest - 7, distance & 255])
        at += length
    flush()
    return bytes(out)


def write_pcd(path: Path, rows: np.ndarray, form: str, changes: dict[str, str] | None = None) -> Path:
    """The path, after a structured array has been written there as PCD."""
    assert rows.dtype.names is not None
    kinds = [rows.dtype[name] for name in rows.dtype.names]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name.rstrip("0") for name in rows.dtype.names),
        "SIZE": " ".join(str(kind.base.itemsize) for kind in kinds),
        "TYPE": " ".join(kind.base.kind.upper() for kind in kinds),
        "COUNT": " ".join(str(int(np.prod(kind.shape, dtype=int))) for kind in kinds),
        "WIDTH": str(len(rows)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(rows)),
        "DATA": form,
    }
    lines = {key: value for key, value in (lines | (changes or {})).items() if value}
    header = "# .PCD v0.7 - Point Cloud Data file format\n" + "".join(f"{k} {v}\n" for k, v in lines.items())
    if form == "ascii":
        words = [[repr(v.item()) for name in rows.dtype.names for v in np.ravel(row[name])] for row in rows]
        body = "".join(" ".join(w) + "\n" for w in words).encode()
    elif form == "binary":
        body = rows.tobytes()
    else:
        raw = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names)
        packed = lzf_compress(raw)
        body = np.array([len(packed), len(raw)], "<u4").tobytes() + packed
    path.write_bytes(header.encode() + body)
    return path


def cloud(num_points: int = 40) -> np.ndarray:
    kinds = [("x", "<f4"), ("y", "<f8"), ("_", "u1", (4,)), ("z", "<f4"), ("rgb", "<f4"), ("normal_x", "<f4")]
    kinds += [("normal_y", "<f4"), ("normal_z", "<f4"), ("label", "<u2"), ("intensity", "<f4"), ("hist", "<f4", (3,))]
    rows, draws = np.zeros(num_points, kinds), numpy_generator("pcd")
    for name in "xyz":
        rows[name] = draws.integers(-8, 8, num_points) / 4
    bits = 0x7F000000 | draws.integers(0, 256**3, num_points) & 0x7FFFFF
    rows["rgb"] = bits.astype("<u4").view("<f4")
    rows["normal_y"] = 1
    rows["label"], rows["intensity"] = np.arange(num_points) % 7, 0.5
    rows["hist"] = draws.integers(0, 9, (num_points, 3))
    return rows
