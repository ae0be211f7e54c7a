"""A plain writer of PLY files."""

import struct
from pathlib import Path

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
CODES = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}


def write_ply(path: Path, form: str, elements: list) -> Path:
    """The path, after elements (name, [(type or (count type, type), name)], rows) have been written there as PLY."""
    header, body = [b"ply", f"format {form} 1.0".encode(), b"comment made by a test"], b""
    for name, properties, rows in elements:
        header.append(f"element {name} {len(rows)}".encode())
        for kind, label in properties:
            header.append(f"property {kind if isinstance(kind, str) else 'list ' + ' '.join(kind)} {label}".encode())
        for row in rows:
            for (kind, _), value in zip(properties, row, strict=True):
                values = [value] if isinstance(kind, str) else [len(value), *value]
                kinds = [kind] if isinstance(kind, str) else [kind[0]] + [kind[1]] * len(value)
                if form == "ascii":
                    body += " ".join(map(str, values)).encode() + b" "
                else:
                    body += b"".join(
                        struct.pack(FORMATS[form] + CODES[k], v) for k, v in zip(kinds, values, strict=True)
                    )
            body += b"\n" if form == "ascii" else b""
    path.write_bytes(b"\n".join([*header, b"end_header", b""]) + body)
    return path
