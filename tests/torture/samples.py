"""Sound files of every format that geo3d reads: the same twelve points in each."""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np

SIZE = 12
POS = np.random.default_rng(7).uniform(-1, 1, (SIZE, 3)).round(4)
FACES = [(i, i + 1, i + 2) for i in range(0, SIZE - 2, 2)]


class Sample(NamedTuple):
    """A file: its suffix, its bytes, the oracle that reads it, and whether geo3d may refuse it."""

    suffix: str
    content: bytes
    oracle: str
    optional: bool = False


def rows(separator: str, *more: list, comma: bool = False) -> str:
    """The points as text, one per line, with further columns."""
    lines = [separator.join(str(v) for v in (*pos, *rest)) for pos, *rest in zip(POS.tolist(), *more, strict=True)]
    text = "".join(f"{line}\n" for line in lines)
    return text.replace(".", ",") if comma else text


def samples() -> Iterator[tuple[str, Sample]]:
    """Name and file of every sample."""
    label, weight = [i % 3 for i in range(SIZE)], [round(0.1 * i + 0.05, 3) for i in range(SIZE)]
    colours = [[(37 * i + k) % 256 for i in range(SIZE)] for k in (1, 80, 160)]
    texts = {
        "xyz": ("xyz", rows(" ")),
        "txt-tabs": ("txt", "# x y z intensity\n" + rows("\t", weight)),
        "txt-decimal-commas": ("txt", rows(" ", comma=True)),
        "csv": ("csv", "x,y,z,label\n" + rows(",", label)),
        "csv-semicolons": ("csv", "id;x;y;z\n" + "".join(f"{i};{a};{b};{c}\n" for i, (a, b, c) in enumerate(POS))),
        "csv-nameless": ("csv", rows(",", weight)),
        "pts": ("pts", f"{SIZE}\n" + rows(" ", weight, *colours)),
        "asc": ("asc", "//X Y Z\n" + rows(" ")),
    }
    for name, (suffix, text) in texts.items():
        yield name, Sample(suffix, text.encode(), "table", name == "txt-decimal-commas")
    for form in ("ascii", "binary_little_endian", "binary_big_endian"):
        yield f"ply-{form}", Sample("ply", ply(form), "ply")
    for form in ("ascii", "binary", "binary_compressed"):
        yield f"pcd-{form}", Sample("pcd", pcd(form, label), "pcd")
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in FACES)
    yield "off", Sample("off", f"OFF\n{SIZE} {len(FACES)} 0\n{rows(' ')}{faces}".encode(), "off")
    yield "off-glued", Sample("off", f"OFF{SIZE} {len(FACES)} 0\n{rows(' ')}{faces}".encode(), "off")
    yield "off-colours", Sample("off", f"COFF\n{SIZE} 0 0\n{rows(' ', *colours, [255] * SIZE)}".encode(), "off")
    lines = "".join(f"v {line}\n" for line in rows(" ").splitlines())
    corners = "".join(f"f {a + 1}//1 {b + 1}//1 {c + 1}//1\n" for a, b, c in FACES)
    yield "obj", Sample("obj", f"# a mesh\nmtllib a.mtl\n{lines}vn 0 0 1\nusemtl red\n{corners}".encode(), "obj")
    for name, array in {"npy": POS.astype("<f4"), "npy-double": POS, "npy-fortran": np.asfortranarray(POS)}.items():
        yield name, Sample("npy", saved(np.save, array), "npy")
    for name, save in {"npz": np.savez, "npz-compressed": np.savez_compressed}.items():
        yield name, Sample("npz", saved(save, pos=POS.astype("<f4"), point_y=np.array(label)), "npz")
    yield "h5", Sample("h5", hdf5(), "hdf5")
    yield "h5-compressed", Sample("h5", hdf5(compression="gzip", chunks=(4, 3)), "hdf5")


def ply(form: str) -> bytes:
    """A PLY file of vertices with a colour and one more number, and triangles."""
    header = (
        f"ply\nformat {form} 1.0\ncomment made for a test\nelement vertex {SIZE}\nproperty float x\n"
        "property double y\nproperty float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"property short quality\nelement face {len(FACES)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    vertices = [(*pos, i, 255 - i, 7 * i, 10 * i) for i, pos in enumerate(POS.tolist())]
    if form == "ascii":
        lines = [" ".join(map(str, row)) for row in [*vertices, *((3, *face) for face in FACES)]]
        return (header + "\n".join(lines) + "\n").encode()
    order = "<" if form == "binary_little_endian" else ">"
    body = b"".join(struct.pack(order + "fdfBBBh", *row) for row in vertices)
    return header.encode() + body + b"".join(struct.pack(order + "Biii", 3, *face) for face in FACES)


def pcd(form: str, label: list[int]) -> bytes:
    """A PCD file of points with a label and a packed colour."""
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z label rgb\nSIZE 4 8 4 4 4\n"
        f"TYPE F F F U F\nCOUNT 1 1 1 1 1\nWIDTH {SIZE}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {SIZE}\n"
        f"DATA {form}\n"
    )
    colours = [struct.unpack("<f", struct.pack("<I", 65536 * 9 * i + 256 * i + 3))[0] for i in range(SIZE)]
    table = [(*pos, y, colour) for pos, y, colour in zip(POS.tolist(), label, colours, strict=True)]
    if form == "ascii":
        return (header + "".join(" ".join(map(str, row)) + "\n" for row in table)).encode()
    if form == "binary":
        return header.encode() + b"".join(struct.pack("<fdfIf", *row) for row in table)
    raw = b"".join(
        struct.pack(f"<{SIZE}{letter}", *column)
        for letter, column in zip("fdfIf", zip(*table, strict=True), strict=True)
    )
    packed = lzf(raw)
    return header.encode() + struct.pack("<II", len(packed), len(raw)) + packed


def lzf(raw: bytes) -> bytes:
    """The bytes packed by LZF: a copy for every four bytes that came before, literals for the rest."""
    out, at, literal = bytearray(), 0, bytearray()

    def flush() -> None:
        for i in range(0, len(literal), 32):
            out.extend([len(literal[i : i + 32]) - 1, *literal[i : i + 32]])
        literal.clear()

    while at < len(raw):
        back = raw.rfind(raw[at : at + 4], max(0, at - 8000), at) if at + 4 <= len(raw) else -1
        if back >= 0 and back + 4 <= at:
            flush()
            distance = at - back - 1
            out += bytes([2 << 5 | distance >> 8, distance & 255])
            at += 4
        else:
            literal.append(raw[at])
            at += 1
    flush()
    return bytes(out)


def saved(save, *arrays, **named) -> bytes:  # type: ignore[no-untyped-def]
    """The bytes that one of NumPy's functions ``save`` and ``savez`` writes."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def hdf5(**options) -> bytes:  # type: ignore[no-untyped-def]
    """An HDF5 file of one cloud with a label."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset("data", data=POS.astype("<f4"), **options)
        file["label"] = np.array([1], dtype="u1")
    return memory.getvalue()
