"""Mutations of a file: functions from its bytes and a random generator to the damaged bytes."""

import re
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

TOKEN = re.compile(rb"[+-]?\d[\d.,eE+-]*")
WORD = re.compile(rb"[A-Za-z_]{1,24}[A-Za-z_0-9]*")
NUMBERS = [
    b"1e400", b"-1", b"-7", b"0", b"1", b"2", b"11", b"13", b"255", b"256", b"65536", b"4294967295", b"2147483648",
    b"99999999999999999999", b"1e9", b"1000000000", b"3e38", b"4e38", b"1e-400", b"nan", b"NaN", b"-inf", b"Infinity",
    b"5_0", b"1_000.5", b"0_1", b"1,5", b"1.234,5", b"1,234.5", b"0x1F", b"0b1", b"1.2.3", b"--1", b"+-1", b"+", b"-",
    b"", b"e5", b"1e", b"1e+", b".", b".5", b"5.", b"1d3", b"1f", b"1L", b"TRUE", b"None", b"(1)", b"'1'", b'"1"',
    "\u0661".encode(), "\uff11".encode(), "\u22121".encode(), "1\u00a0000".encode(), b"1 2", b"1\t2", b"1;2", b"1/2",
    b"9" * 5000, b"7" * 200_000, b"0." + b"3" * 5000, b"1e" + b"9" * 400, b"x" * 200_000, b"1#2", b"1//2", b"%d",
]  # fmt: skip
WORDS = [
    b"x", b"y", b"z", b"X", b"Z", b"nx", b"red", b"label", b"intensity", b"vertex", b"face", b"edge", b"property",
    b"element", b"list", b"float", b"double", b"int", b"uint", b"uchar", b"char", b"short", b"uint64", b"half",
    b"ascii", b"binary_little_endian", b"binary_big_endian", b"binary", b"binary_compressed", b"comment", b"end_header",
    b"format", b"ply", b"OFF", b"COFF", b"NOFF", b"STOFF", b"nOFF", b"OFF BINARY", b"FIELDS", b"SIZE", b"TYPE",
    b"COUNT", b"WIDTH", b"HEIGHT", b"POINTS", b"DATA", b"F", b"U", b"I", b"v", b"vn", b"vt", b"f", b"g", b"data",
    b"pos",
    b"descr", b"shape", b"fortran_order", b"False", b"True", b"vertex_indices", b"vertex_index", b"_", b"scalar",
    b"comment end_header", b"east", b"R", b"#", b"//",
]  # fmt: skip


def bits(content: bytes, draw: Random) -> bytes:
    """Flip up to three bits."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def head_bits(content: bytes, draw: Random) -> bytes:
    """Flip a bit in the first 300 bytes, where headers are."""
    at = draw.randrange(min(300, len(content)))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, draw: Random) -> bytes:
    """Cut off the end."""
    return content[: draw.randrange(len(content))]


def inserted(content: bytes, draw: Random) -> bytes:
    """Insert a few bytes, such as a separator or random ones."""
    at = draw.randrange(len(content) + 1)
    pieces = (b"\0", b" ", b"\n", b"\r", b"\r\n", b",", b";", b"#", b"-", b"_", b".", b"\xef\xbb\xbf", b"\x1a", b"\\\n")
    piece = draw.choice([*pieces, draw.randbytes(draw.choice((1, 2, 4, 16))), str(draw.randrange(10)).encode()])
    return content[:at] + piece + content[at:]


def doubled(content: bytes, draw: Random) -> bytes:
    """Repeat a range of bytes."""
    low = draw.randrange(len(content))
    high = min(len(content), low + draw.choice((1, 2, 4, 12, 60, 200)))
    return content[:high] + content[low:high] + content[high:]


def lost(content: bytes, draw: Random) -> bytes:
    """Remove a range of bytes."""
    low = draw.randrange(len(content))
    return content[:low] + content[low + draw.choice((1, 2, 4, 12, 60, 200)) :]


def moved(content: bytes, draw: Random) -> bytes:
    """Exchange two lines."""
    lines = content.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def lines_lost(content: bytes, draw: Random) -> bytes:
    """Remove or repeat a line."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at : at + 1] = [lines[at]] * draw.choice((0, 2))
    return b"\n".join(lines)


def replaced(content: bytes, draw: Random, pattern: re.Pattern, choices: list[bytes]) -> bytes:
    """Replace one match of the pattern by one of the choices; without a match, flip bits."""
    matches = list(pattern.finditer(content))
    if not matches:
        return bits(content, draw)
    chosen = draw.choice(matches)
    return content[: chosen.start()] + draw.choice(choices) + content[chosen.end() :]


def numbers(content: bytes, draw: Random) -> bytes:
    """Replace a number by another one, or by something that is not a number."""
    return replaced(content, draw, TOKEN, NUMBERS)


def counts(content: bytes, draw: Random) -> bytes:
    """Replace a number in the first 300 bytes, where counts are."""
    head = min(len(content), 300)
    return replaced(content[:head], draw, TOKEN, NUMBERS) + content[head:]


def columns(content: bytes, draw: Random) -> bytes:
    """Replace every decimal point, or every separator, by another character."""
    old, new = draw.choice(((b".", b","), (b",", b";"), (b",", b" "), (b" ", b","), (b" ", b";"), (b"\t", b";")))
    return content.replace(old, new)


def words(content: bytes, draw: Random) -> bytes:
    """Replace a word by another."""
    return replaced(content, draw, WORD, WORDS)


def swapped(content: bytes, draw: Random) -> bytes:
    """Exchange two words in the first 600 bytes."""
    matches = list(WORD.finditer(content[:600]))
    if len(matches) < 2:
        return words(content, draw)
    a, b = sorted(draw.sample(matches, 2), key=lambda match: match.start())
    return content[: a.start()] + b[0] + content[a.end() : b.start()] + a[0] + content[b.end() :]


def line_ends(content: bytes, draw: Random) -> bytes:
    """Replace every line end, or one of them, by another one."""
    ending = draw.choice((b"\r\n", b"\r", b"\n\n", b"\n\r", b"\x0b", b"\x0c", b"\xe2\x80\xa8"))
    if draw.random() < 0.5:
        return content.replace(b"\n", ending)
    ends = [i for i, byte in enumerate(content) if byte == 10]
    return content if not ends else content[: (at := draw.choice(ends))] + ending + content[at + 1 :]


def twice(content: bytes, draw: Random) -> bytes:
    """Apply two other mutations, one after the other."""
    first, second = draw.sample(MUTATIONS[:-1], 2)
    return second(first(content, draw) or b"\0", draw)


MUTATIONS: list[Mutation] = [
    bits, head_bits, cut, inserted, doubled, lost, moved, lines_lost, numbers, counts, columns, words, swapped,
    line_ends, twice,
]  # fmt: skip
