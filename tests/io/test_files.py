import json
from pathlib import Path

import pytest

from geo3d.errors import CloudError, Geo3dError
from geo3d.io.files import existing_file, existing_folder, listing, read_bytes, replacing, write_json


def test_a_failed_block_leaves_what_was_there_and_no_rest(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), replacing(file) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_missing_folders_are_made_and_the_file_replaced(tmp_path: Path):
    file = tmp_path / "b" / "c" / "a.json"
    for obj in ({"a": [1, 2]}, {"b": None}):
        write_json(file, obj)
        assert json.loads(file.read_text()) == obj
    assert list(file.parent.iterdir()) == [file]


def test_json_that_cannot_be_written_touches_nothing(tmp_path: Path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_places_that_cannot_be_written_to(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Geo3dError, match="found a folder"), replacing(tmp_path):
        pass
    with pytest.raises(Geo3dError, match="cannot be made"), replacing(tmp_path / "file" / "a.txt"):
        pass


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "empty.ply").touch()
    with pytest.raises(CloudError, match=r"none\.ply: no such file"):
        existing_file(tmp_path / "none.ply")
    with pytest.raises(CloudError, match="found a folder"):
        existing_file(tmp_path)
    with pytest.raises(CloudError, match="0 bytes"):
        read_bytes(tmp_path / "empty.ply")


def test_a_file_without_permission(tmp_path: Path):
    file = tmp_path / "a.ply"
    file.write_text("ply")
    file.chmod(0)
    try:
        file.read_bytes()
        pytest.skip("this user may read any file")
    except PermissionError:
        pass
    with pytest.raises(CloudError, match="permissions"):
        read_bytes(file)


def test_the_listing_depends_on_names_and_sizes_alone(tmp_path: Path):
    for name, text in (("a", "12"), ("b", "3")):
        (tmp_path / name).write_text(text)
    files = [tmp_path / "b", tmp_path / "a"]
    first = listing(files, tmp_path)
    assert first["files"] == {"a": 2, "b": 1} and first["bytes"] == 3 and first["num_files"] == 2
    assert listing(files[::-1], tmp_path) == first
    (tmp_path / "a").write_text("34")
    assert listing(files, tmp_path) == first
    (tmp_path / "a").write_text("345")
    assert listing(files, tmp_path)["sha256"] != first["sha256"]


def test_the_listing_names_at_most_a_hundred_files(tmp_path: Path):
    files = [tmp_path / f"{i:03}" for i in range(101)]
    for file in files:
        file.write_text("")
    assert len(listing(files[:100], tmp_path)["files"]) == 100
    assert listing(files, tmp_path).keys() == {"num_files", "bytes", "sha256"}


def test_names_that_are_no_files(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("loop", "9" * 300):
        with pytest.raises(CloudError, match="cannot be read: (too many levels|file name too long)") as raised:
            existing_file(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_what_is_no_folder_says_what_it_is(tmp_path):
    (tmp_path / "file").write_text("x")
    assert existing_folder(tmp_path) == tmp_path
    with pytest.raises(CloudError, match="file: expected a folder, found a file$"):
        existing_folder(tmp_path / "file")
    with pytest.raises(CloudError, match="nowhere: no such folder; expected clouds$"):
        existing_folder(tmp_path / "nowhere", "clouds")
