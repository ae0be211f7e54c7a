"""The reader of .sens files: what is in them, and every way in which they can be damaged."""

import struct
import zlib

import numpy as np
import pytest
from support.sens_files import COLOR, DEPTH, LOST, POSE, colors, depths, intrinsic, sens_bytes

from geo3d.errors import CloudError
from geo3d.io.sens import Sens

HEADER = 4 + 8 + 15 + 4 * 64 + 8 + 16 + 4 + 8
"""Bytes before the first frame; the sensor's name has 15."""


def opened(tmp_path, content):
    path = tmp_path / "scene0000_00.sens"
    path.write_bytes(content)
    return Sens(path)


def frames(tmp_path, content, every=1):
    return list(opened(tmp_path, content).frames(every))


@pytest.mark.parametrize("version", [3, 4])
def test_a_file_has_its_cameras_and_frames(tmp_path, version):
    sens = opened(tmp_path, sens_bytes(version=version))
    assert (sens.version, sens.sensor, sens.num_frames, sens.depth_shift) == (version, "StructureSensor", 3, 1000)
    assert (sens.color.width, sens.color.height) == COLOR and (sens.depth.width, sens.depth.height) == DEPTH
    np.testing.assert_allclose(sens.color.intrinsic, intrinsic(COLOR), rtol=1e-6)
    assert (sens.color.codec, sens.depth.codec) == ("png", "zlib_ushort")
    assert np.array_equal(sens.depth.intrinsic, intrinsic(DEPTH)) and np.array_equal(sens.depth.extrinsic, np.eye(4))
    each = list(sens.frames())
    assert [frame.number for frame in each] == [0, 1, 2] and [frame.depth_time for frame in each] == [1, 11, 21]
    assert np.array_equal(each[2].pose, POSE) and np.array_equal(each[1].pose, LOST["inf"])
    for i, frame in enumerate(each):
        assert np.array_equal(sens.raw_depth(frame), depths(i))
        np.testing.assert_allclose(sens.metres(frame), depths(i) / 1000, rtol=1e-6)
        assert np.array_equal(sens.colors(frame), colors(i))


def test_one_frame_in_so_many_is_taken(tmp_path):
    content = sens_bytes(poses=[POSE] * 7)
    taken = frames(tmp_path, content, every=3)
    assert [frame.number for frame in taken] == [0, 3, 6]
    assert np.array_equal(opened(tmp_path, content).raw_depth(taken[1]), depths(3))


def test_raw_and_jpeg_images_are_read_too(tmp_path):
    sens = opened(tmp_path, sens_bytes(color_codec=0, depth_codec=0))
    frame = next(sens.frames())
    assert np.array_equal(sens.colors(frame), colors()) and np.array_equal(sens.raw_depth(frame), depths())
    sens = opened(tmp_path, sens_bytes(color_codec=2))
    assert np.abs(sens.colors(next(sens.frames())).astype(int) - colors()).mean() < 20


def test_compressions_that_are_not_read_are_named(tmp_path):
    sens = opened(tmp_path, sens_bytes(depth_codec=2))
    with pytest.raises(
        CloudError, match="scene0000_00.sens: depth compressed as occi_ushort is not read; export it as"
    ):
        sens.raw_depth(next(sens.frames()))
    sens = opened(tmp_path, sens_bytes(color_codec=-1))
    with pytest.raises(CloudError, match="colour of frame 0: .*found unknown compression; do without colours"):
        sens.colors(next(sens.frames()))


def test_other_versions_and_damaged_headers_are_refused(tmp_path):
    content = sens_bytes()
    wrong = [
        (0, struct.pack("<I", 2), "expected version 3 or 4 of the .sens format, found 2"),
        (4, struct.pack("<Q", 2**60), "expected a name of the sensor, found one of 1152921504606846976 bytes"),
        (HEADER - 36, struct.pack("<i", 7), r"the header is damaged: compression \(7, 1\)"),
        (HEADER - 20, struct.pack("<I", 0), "the header is damaged: .*sizes of images"),
        (HEADER - 12, struct.pack("<f", float("nan")), "expected how many units of depth a metre has, found nan"),
    ]
    for at, part, message in wrong:
        with pytest.raises(CloudError, match=f"scene0000_00.sens: {message}"):
            opened(tmp_path, content[:at] + part + content[at + len(part) :])
    with pytest.raises(CloudError, match="the file is empty|cut off: the version at byte 0"):
        opened(tmp_path, b"")
    with pytest.raises(CloudError, match="no such file"):
        Sens(tmp_path / "missing.sens")


@pytest.mark.parametrize("size", [3, 8, 20, 100, HEADER - 1])
def test_a_header_that_is_cut_off_is_named_with_the_byte(tmp_path, size):
    with pytest.raises(
        CloudError, match=rf"cut off: the .* at byte \d+ needs \d+ bytes, the file ends at byte {size};"
    ):
        opened(tmp_path, sens_bytes()[:size])


def test_every_cut_behind_the_header_is_noticed(tmp_path):
    content = sens_bytes(poses=[POSE, POSE])
    for size in range(HEADER, len(content), 37):
        with pytest.raises(CloudError, match=rf"cut off: the .* at byte \d+ needs .* the file ends at byte {size};"):
            frames(tmp_path, content[:size])
    with pytest.raises(CloudError, match=rf"expected the end at byte {len(content)}, found {len(content) + 5} bytes"):
        frames(tmp_path, content + b"extra")


def test_sizes_that_no_file_can_have_are_refused_before_memory_is_taken(tmp_path):
    content = bytearray(sens_bytes())
    struct.pack_into("<Q", content, HEADER + 64 + 16, 2**62)
    with pytest.raises(CloudError, match=f"cut off: the images of frame 0 at byte {HEADER + 96} needs 46116860"):
        frames(tmp_path, bytes(content))


def test_damaged_depth_images_are_refused(tmp_path):
    sens = opened(tmp_path, sens_bytes(poses=[POSE]))
    frame, content = next(sens.frames()), bytearray(sens.path.read_bytes())
    at = frame.start + frame.color_bytes
    for replaced, message in (
        (b"\0" * frame.depth_bytes, "the depth image is damaged"),
        (zlib.compress(b"\0\0", 0)[: frame.depth_bytes], "expected a depth image of 96 bytes, found 2"),
    ):
        changed = (
            bytes(content[:at]) + replaced.ljust(frame.depth_bytes, b"\0") + bytes(content[at + frame.depth_bytes :])
        )
        sens.path.write_bytes(changed)
        with pytest.raises(CloudError, match=rf"frame 0, byte {at}: {message}"):
            sens.raw_depth(frame)
    sens = opened(tmp_path, sens_bytes(poses=[POSE], depth_images=[np.zeros((2000, 2000), np.uint16)]))
    with pytest.raises(CloudError, match="expected a depth image of 96 bytes, found 97"):  # and not 8 million
        sens.raw_depth(next(sens.frames()))


def test_an_image_whose_checksum_is_cut_off_is_refused(tmp_path):
    whole = zlib.compress(depths().tobytes())
    content = sens_bytes(poses=[POSE], version=3)
    assert content.endswith(whole)
    cut = bytearray(content[:-2])
    place = len(content) - len(whole)
    color = len(content) - len(whole) - HEADER - 96
    struct.pack_into("<2Q", cut, HEADER + 64 + 16, color, len(whole) - 2)
    sens = opened(tmp_path, bytes(cut))
    with pytest.raises(CloudError, match=f"byte {place}: the depth image is damaged or cut off"):
        sens.raw_depth(next(sens.frames()))


def test_a_colour_image_of_another_size_is_refused(tmp_path):
    content = bytearray(sens_bytes(poses=[POSE]))
    struct.pack_into("<2I", content, HEADER - 28, 20, 15)
    sens = opened(tmp_path, bytes(content))
    with pytest.raises(
        CloudError, match=r"colour of frame 0: expected an image \(15, 20, 3\), as in the header; found"
    ):
        sens.colors(next(sens.frames()))
