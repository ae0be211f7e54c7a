"""The header lines of a file, and the check that nothing follows its binary data."""

from collections.abc import Iterator

from geo3d.errors import CloudError

BROKEN = "a carriage return within the header line"
PAGE = 2**12
"""Bytes of a memory page: programs that write through mapped memory may fill the last page with zeros."""
PADDING = range(16, 2**16 + 1)
"""How many zeros may follow the data without completing a page; the largest pages have 2**16 bytes."""


def header_lines(content: bytes) -> Iterator[tuple[str, int]]:
    r"""Each complete line of the header, and the offset at which the next line begins.

    The first line decides how all lines end: with a line feed, perhaps after a carriage return, or with a carriage
    return alone. Accepting both would take bytes of the data for line ends. A carriage return within a line is damage.
    It is left in the line for the caller to refuse, because ``str.split`` would take it for a blank.

    Example:
        >>> [line for line, _ in header_lines(b"ply\r\nend_header\r\n")]
        ['ply', 'end_header']
        >>> list(header_lines(b"ply\rend_header\r"))
        [('ply', 4), ('end_header', 15)]
    """
    feed, back = content.find(b"\n"), content.find(b"\r")
    alone = back >= 0 and back + 1 != feed and (feed < 0 or back < feed)
    mark = b"\r" if alone else b"\n"
    start = 0
    while (end := content.find(mark, start)) >= 0:
        line, start = content[start:end], end + 1
        yield line.decode("ascii", "replace").rstrip("\r").strip(" \t"), start


def check_end(content: bytes, end: int, source: str) -> None:
    """Check that only padding with zeros follows the data of a binary file.

    A few zeros that do not fill the last page are not padding: they may be the last bytes of the data, pushed out by
    bytes inserted earlier.

    Raises:
        CloudError: If anything else follows: then the number of points or the size of a number is not the declared one.
    """
    rest = len(content) - end
    fills = len(content) % PAGE == 0 and rest < PADDING.stop
    if rest and (not (rest in PADDING or fills) or content[end:].strip(b"\0")):
        raise CloudError(
            f"{source}: {rest} bytes are left over after the data that the header declares; "
            "its counts, types or line ends are damaged"
        )
