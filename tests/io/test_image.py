import builtins

import numpy as np
import pytest
from support.sens_files import colors, depths, encoded, numbers

from geo3d.errors import CloudError
from geo3d.io.image import decode_colors, image_size, read_colors, read_integers


def written(tmp_path, image, form="PNG"):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(image, form))
    return path


def test_images_are_read_as_stored(tmp_path):
    assert np.array_equal(read_integers(written(tmp_path, depths()), 16), depths())
    large = np.array([[0, 255, 256, 40_000, 65_535]], np.uint16)
    read = read_integers(written(tmp_path, large), 16)
    assert read.dtype == np.uint16 and np.array_equal(read, large)
    assert np.array_equal(read_integers(written(tmp_path, numbers()), 8), numbers())
    path = written(tmp_path, colors())
    assert np.array_equal(read_colors(path), colors()) and image_size(path) == (16, 12)
    assert np.abs(decode_colors(encoded(colors(), "JPEG"), "a").astype(int) - colors()).mean() < 20


def test_images_of_another_kind_are_refused(tmp_path):
    with pytest.raises(CloudError, match="image.png: expected a PNG of one channel of 16 bits, found PNG L"):
        read_integers(written(tmp_path, numbers()), 16)
    with pytest.raises(CloudError, match="expected a PNG of one channel of 8 bits, found PNG RGB"):
        read_integers(written(tmp_path, colors()), 8)
    with pytest.raises(CloudError, match="of 8 bits, found JPEG L"):  # its numbers have changed
        read_integers(written(tmp_path, numbers(), "JPEG"), 8)
    with pytest.raises(CloudError, match="expected an image with three channels of 8 bits, found L"):
        read_colors(written(tmp_path, numbers()))


def test_damaged_images_are_refused(tmp_path):
    path = written(tmp_path, np.random.default_rng(0).integers(0, 60_000, (60, 80)).astype(np.uint16))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CloudError, match="image.png: the image is damaged or cut off"):
        read_integers(path, 16)
    path.write_bytes(b"GIF89a" + bytes(50))
    with pytest.raises(CloudError, match="image.png: expected a JPEG or PNG image; the file is damaged or another"):
        read_colors(path)
    path.write_bytes(b"")
    with pytest.raises(CloudError, match="image.png: the file is empty"):
        read_integers(path, 16)


def test_a_header_that_declares_a_huge_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("geo3d.io.image.MOST", 100)
    with pytest.raises(CloudError, match="expected an image of at most 100 pixels, found 16x12"):
        read_colors(written(tmp_path, colors()))


def test_without_pillow_the_message_says_so(monkeypatch):
    before = builtins.__import__

    def without(name, *rest):
        if name.startswith("PIL"):
            raise ImportError(name)
        return before(name, *rest)

    content = encoded(colors(), "PNG")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CloudError, match="a.png: images are read by Pillow, which is missing; pip install pillow"):
        decode_colors(content, "a.png")
