"""ScanNet's ``.sens`` files: a stream of depth and colour images with poses, in versions 3 and 4."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import existing_file
from geo3d.io.image import decode_colors

COLOR_CODECS = {-1: "unknown", 0: "raw", 1: "png", 2: "jpeg"}
DEPTH_CODECS = {-1: "unknown", 0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}
FRAME = struct.Struct("<16f4Q")
"""Before the images of a frame: its pose, two time stamps and the bytes of the colour and of the depth image."""
IMU = 128
"""Bytes of a measurement of the IMU, of which version 4 has a list after the frames."""
LONGEST = 4096
"""Most characters of the sensor's name."""
LARGEST = 2**14
"""Most pixels of a side of an image."""


class Camera(NamedTuple):
    """One of the two cameras of a ``.sens`` file."""

    intrinsic: np.ndarray
    """(4, 4) float64."""
    extrinsic: np.ndarray
    """(4, 4) float64; the identity where the poses are those of this camera."""
    codec: str
    """How its images are compressed."""
    width: int
    height: int


class Frame(NamedTuple):
    """Where the images of one frame lie in the file."""

    number: int
    pose: np.ndarray
    """(4, 4) float64 camera to world. It is -inf, NaN or zero where the camera was lost."""
    color_time: int
    depth_time: int
    start: int
    """Offset of the colour image; the depth image follows it."""
    color_bytes: int
    depth_bytes: int


class Sens:
    """The header of a ``.sens`` file, and its frames one by one; never more than one image is in memory.

    Args:
        path: The file.

    Raises:
        CloudError: If it is missing, of another version, cut off in the header, or the header makes no sense.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = existing_file(path)
        self.size = self.path.stat().st_size
        with self.path.open("rb") as file:
            (self.version,) = self._unpack(file, "<I", "version")
            if self.version not in (3, 4):
                raise CloudError(f"{path}: expected version 3 or 4 of the .sens format, found {self.version}")
            (length,) = self._unpack(file, "<Q", "length of the sensor's name")
            if length > LONGEST:
                raise CloudError(f"{path}: expected a name of the sensor, found one of {length} bytes; file is damaged")
            self.sensor = self._take(file, length, "name of the sensor").decode("utf-8", "replace")
            matrices = [self._unpack(file, "<16f", "calibration") for _ in range(4)]
            codecs = self._unpack(file, "<2i", "compression")
            sizes = self._unpack(file, "<4I", "size of the images")
            (self.depth_shift,) = self._unpack(file, "<f", "unit of the depth")
            (self.num_frames,) = self._unpack(file, "<Q", "number of frames")
            self.start = file.tell()
        names = [table.get(codec, "") for table, codec in zip((COLOR_CODECS, DEPTH_CODECS), codecs, strict=True)]
        if not all(names) or not all(1 <= side <= LARGEST for side in sizes[2:]) or max(sizes[:2]) > LARGEST:
            raise CloudError(f"{path}: the header is damaged: compression {codecs}, sizes of images {sizes}")
        if not 0 < self.depth_shift < float("inf"):
            raise CloudError(f"{path}: expected how many units of depth a metre has, found {self.depth_shift}")
        tables = [np.array(matrix, dtype=np.float64).reshape(4, 4) for matrix in matrices]
        self.color = Camera(tables[0], tables[1], names[0], *sizes[:2])
        self.depth = Camera(tables[2], tables[3], names[1], *sizes[2:])

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """The frames whose number is divisible by ``every``, in order; their images are not read.

        Raises:
            CloudError: If the file is cut off, or goes on after its end; the message has the offset in bytes.
        """
        with self.path.open("rb") as file:
            file.seek(self.start)
            for number in range(self.num_frames):
                *numbers, color_time, depth_time, color_bytes, depth_bytes = self._unpack(
                    file, FRAME, f"frame {number}"
                )
                start = file.tell()
                self._check_rest(start, color_bytes + depth_bytes, f"images of frame {number}")
                if number % every == 0:
                    pose = np.array(numbers, dtype=np.float64).reshape(4, 4)
                    yield Frame(number, pose, color_time, depth_time, start, color_bytes, depth_bytes)
                file.seek(start + color_bytes + depth_bytes)
            if self.version == 4:
                (count,) = self._unpack(file, "<Q", "number of IMU measurements")
                self._check_rest(file.tell(), count * IMU, "IMU measurements")
                file.seek(count * IMU, os.SEEK_CUR)
            if file.tell() != self.size:
                raise CloudError(f"{self.path}: expected the end at byte {file.tell()}, found {self.size} bytes")

    def raw_depth(self, frame: Frame) -> np.ndarray:
        """(H, W) uint16 the depth image as stored, 0 where nothing was measured.

        Raises:
            CloudError: If it is compressed in another way than by zlib, damaged, or of another size.
        """
        source = f"{self.path}, frame {frame.number}, byte {frame.start + frame.color_bytes}"
        size = 2 * self.depth.width * self.depth.height
        if self.depth.codec not in ("raw_ushort", "zlib_ushort"):
            raise CloudError(
                f"{self.path}: depth compressed as {self.depth.codec} is not read; export it as zlib_ushort"
            )
        content = self._read(frame.start + frame.color_bytes, frame.depth_bytes, f"depth of frame {frame.number}")
        if self.depth.codec == "zlib_ushort":
            content = _inflated(content, size, source)
        if len(content) != size:
            raise CloudError(f"{source}: expected a depth image of {size} bytes, found {len(content)}")
        return np.frombuffer(content, "<u2").reshape(self.depth.height, self.depth.width).astype(np.uint16)

    def metres(self, frame: Frame) -> np.ndarray:
        """(H, W) float32 the depth image in metres, 0 where nothing was measured."""
        return (self.raw_depth(frame) / self.depth_shift).astype(np.float32)

    def colors(self, frame: Frame) -> np.ndarray:
        """(H, W, 3) uint8 the colour image.

        Raises:
            CloudError: If its compression is unknown, or it is missing, damaged, or of another size.
        """
        source, shape = f"{self.path}, colour of frame {frame.number}", (self.color.height, self.color.width, 3)
        if self.color.codec == "unknown" or not frame.color_bytes:
            what = "no image" if not frame.color_bytes else "unknown compression"
            raise CloudError(f"{source}: expected a JPEG, PNG or raw image, found {what}; do without colours")
        content = self._read(frame.start, frame.color_bytes, f"colour of frame {frame.number}")
        if self.color.codec != "raw":
            image = decode_colors(content, source)
        elif len(content) == shape[0] * shape[1] * shape[2]:
            image = np.frombuffer(content, np.uint8).reshape(shape)
        else:
            raise CloudError(f"{source}: expected {shape[0] * shape[1] * shape[2]} bytes, found {len(content)}")
        if image.shape != shape:
            raise CloudError(f"{source}: expected an image {shape}, as in the header; found {image.shape}")
        return image

    def _read(self, start: int, count: int, what: str) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return self._take(file, count, what)

    def _unpack(self, file: IO[bytes], form: str | struct.Struct, what: str) -> tuple:
        form = struct.Struct(form) if isinstance(form, str) else form
        return form.unpack(self._take(file, form.size, what))

    def _take(self, file: IO[bytes], count: int, what: str) -> bytes:
        start = file.tell()
        self._check_rest(start, count, what)
        content = file.read(count)
        if len(content) < count:  # the file became shorter after it was opened
            raise CloudError(f"{self.path}: cut off at byte {start + len(content)}, in the {what}")
        return content

    def _check_rest(self, start: int, count: int, what: str) -> None:
        if start + count > self.size:
            raise CloudError(
                f"{self.path}: cut off: the {what} at byte {start} needs {count} bytes, the file ends at byte "
                f"{self.size}; download it again"
            )


def _inflated(content: bytes, size: int, source: str) -> bytes:
    """At most ``size + 1`` bytes of zlib data, so that a damaged image cannot fill the memory."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(content, size + 1)
    except zlib.error as error:
        raise CloudError(f"{source}: the depth image is damaged: {error}") from error
    if len(inflated) == size and not stream.eof:  # the checksum comes at the end
        raise CloudError(f"{source}: the depth image is damaged or cut off")
    return inflated
