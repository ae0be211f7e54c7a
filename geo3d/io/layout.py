"""The outside of a file: the lines of a header in front of the data, and where the data end."""

from collections.abc import Iterator

from geo3d.errors import CloudError

PADDING = 2**16
"""Zero bytes that may follow the data: some programs fill the last page of memory."""


def header_lines(content: bytes) -> Iterator[tuple[str, int]]:
    r"""Each complete line with the place where the next one begins.

    The first line says how lines end: with a line feed, perhaps after a carriage return, or with a carriage return
    alone. To look for any of them would take bytes of the data for the end of a line.

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
        # a carriage return that does not end a line is damage, and must not pass for a blank
        yield line.decode("ascii", "replace").rstrip("\r").replace("\r", "\ufffd").strip(" \t"), start


def check_end(content: bytes, end: int, source: str) -> None:
    """Check that nothing but padding with zero bytes follows the data of a binary file.

    Raises:
        CloudError: If something does: then the numbers of points or the sizes of numbers are not those declared.
    """
    rest = len(content) - end
    if rest > PADDING or content[end:].strip(b"\0"):
        raise CloudError(
            f"{source}: {rest} bytes are left over after the data that the header declares; "
            "its counts, types or line ends are damaged"
        )
