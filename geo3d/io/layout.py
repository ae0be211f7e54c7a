"""The outside of a file: the lines of a header in front of the data, and where the data end."""

from collections.abc import Iterator

from geo3d.errors import CloudError

BROKEN = "a carriage return within the header line"
PAGE = 2**12
"""Bytes of a page of memory: programs that write by way of memory may fill the last one with zeros."""
PADDING = range(16, 2**16 + 1)
"""Zeros that may follow the data and fill no page; the largest pages have as many bytes."""


def header_lines(content: bytes) -> Iterator[tuple[str, int]]:
    r"""Each complete line with the place where the next one begins.

    The first line says how lines end: with a line feed, perhaps after a carriage return, or with a carriage return
    alone. To look for any of them would take bytes of the data for the end of a line. A carriage return within a line
    is damage; it is left there, and must not pass for a blank.

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
    """Check that nothing follows the data of a binary file but padding with zeros.

    A few zeros that do not fill the last page are no padding: as many bytes that were put in before would push them out
    of the data.

    Raises:
        CloudError: If something does: then the numbers of points or the sizes of numbers are not those declared.
    """
    rest = len(content) - end
    fills = len(content) % PAGE == 0 and rest < PADDING.stop
    if rest and (not (rest in PADDING or fills) or content[end:].strip(b"\0")):
        raise CloudError(
            f"{source}: {rest} bytes are left over after the data that the header declares; "
            "its counts, types or line ends are damaged"
        )
