"""Images as arrays, by Pillow, which matplotlib brings along."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes

MOST = 2**26
"""A larger image, in pixels, is refused before memory is allocated for it."""


def read_colors(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 the colours of a JPEG or PNG file."""
    return decode_colors(read_bytes(path), str(path))


def decode_colors(content: bytes, source: str) -> np.ndarray:
    """(H, W, 3) uint8 the colours of an image with three channels of 8 bits.

    Args:
        content: A JPEG or PNG file.
        source: The file, for messages.

    Raises:
        CloudError: If it is damaged, cut off or of another kind, or Pillow is missing.
    """
    with _opened(content, source) as image:
        if image.mode != "RGB":
            raise CloudError(f"{source}: expected an image with three channels of 8 bits, found {image.mode}")
        return _pixels(image, source)


def read_integers(path: str | Path, bits: int) -> np.ndarray:
    """(H, W) uint8 or uint16 the numbers in a PNG file with one channel, such as depths or labels.

    Args:
        path: The file.
        bits: 8 or 16. An image of 8 bits has lost the depths above 255.

    Raises:
        CloudError: If the file is missing, damaged, cut off, or of another kind.
    """
    with _opened(read_bytes(path), str(path)) as image:
        modes = {8: ("L",), 16: ("I;16", "I;16B", "I")}[bits]  # older releases of Pillow open 16 bits as "I"
        if image.format != "PNG" or image.mode not in modes:
            raise CloudError(f"{path}: expected a PNG of one channel of {bits} bits, found {image.format} {image.mode}")
        return _pixels(image, str(path)).astype({8: np.uint8, 16: np.uint16}[bits])


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in the header of an image; its pixels are not read."""
    with _opened(read_bytes(path), str(path)) as image:
        return image.size


def _opened(content: bytes, source: str) -> Any:
    try:
        from PIL import Image  # slow to import, and needed for images alone
    except ImportError as error:
        raise CloudError(f"{source}: images are read by Pillow, which is missing; pip install pillow") from error
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
    except Exception as error:  # Pillow raises its own, OSError, ValueError, SyntaxError and warnings
        raise CloudError(f"{source}: expected a JPEG or PNG image; the file is damaged or another") from error
    if image.width * image.height > MOST:
        raise CloudError(f"{source}: expected an image of at most {MOST} pixels, found {image.width}x{image.height}")
    return image


def _pixels(image: Any, source: str) -> np.ndarray:
    try:
        image.load()
        return np.asarray(image)
    except Exception as error:
        raise CloudError(f"{source}: the image is damaged or cut off: {str(error)[:100]}") from error
