import pytest

from geo3d.errors import CloudError
from geo3d.io.layout import check_end, header_lines
from geo3d.io.numbers import count, numbers, plain, typed, whole


def test_numbers_of_every_common_form():
    words = [b"1", b"-2.5", b"+.5", b"3.", b"1e3", b"1E-3", b"nan", b"-inf", b"0" * 300 + b"7"]
    values = numbers(words, "a").tolist()
    assert values[:6] == [1, -2.5, 0.5, 3, 1000, 0.001] and values[6] != values[6] and values[7:] == [-float("inf"), 7]


@pytest.mark.parametrize(
    "word", [b"5_0", b"0x10", b"1,5", b"1d5", b"five", b"1.2.3", b"--1", b"\xd9\xa1", b"5\0", b"e"]
)
def test_what_is_no_number(word: bytes):
    with pytest.raises(CloudError, match="a.off: expected numbers, found '"):
        numbers([b"1", word, b"2"], "a.off")


def test_a_word_of_200_000_digits_is_refused_and_shown_in_part():
    with pytest.raises(CloudError, match="one of 200000 characters") as caught:
        numbers([b"1"] * 20_000 + [b"1" * 200_000], "a")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("word", ["1" * 5000, "-1", "1.0", "1_0", "", "nan", "١"])
def test_counts_are_short_and_whole(word: str):
    assert count("0012", "points", "a") == 12
    with pytest.raises(CloudError, match="expected the number of points, found") as caught:
        count(word, "points", "a")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5, 2.0**60])
def test_whole_numbers(value: float):
    with pytest.raises(CloudError, match="whole numbers"):
        whole(numbers([repr(value).encode()], "a"), "a")


def test_a_declared_type_bounds_the_numbers_of_a_text():
    assert typed(numbers([b"255", b"0"], "a"), "u1", "a").dtype == "u1"
    assert typed(numbers([b"0.25"], "a"), "f4", "a").tolist() == [0.25]
    assert typed(numbers([b"9007199254740992"], "a"), "i8", "a").tolist() == [2**53]
    for word, kind in ((b"256", "u1"), (b"-1", "<U1"), (b"0.5", "i4"), (b"nan", "i4"), (b"9007199254740994", "i8")):
        with pytest.raises(CloudError, match="expected whole numbers from"):
            typed(numbers([word], "a"), kind, "a")


@pytest.mark.parametrize("byte", [b"\0", b"\x0b", b"\x0c", b"\x1a", b"\x1c", b"\x7f"])
@pytest.mark.parametrize(("before", "line"), [(b"", 1), (b"1 2 3\n", 2), (b"1 2 3\r\n\r\n4", 3), (b"1\r2\r", 3)])
def test_control_characters_are_no_text(byte: bytes, before: bytes, line: int):
    with pytest.raises(CloudError, match=f"^a, line {line}: expected plain text, found a byte of value {byte[0]}$"):
        plain(before + byte + b"1 2 3\n", "a")


def test_tabs_line_ends_and_other_alphabets_are_text():
    assert plain(content := "# für 点\t1\r\n2\r3\n".encode(), "a") is content


def test_the_first_line_decides_how_lines_end():
    assert [line for line, _ in header_lines(b"ply\r\nb\r\n")] == ["ply", "b"]
    assert list(header_lines(b"ply\rend\r\n\n")) == [("ply", 4), ("end", 8)]  # the rest are data
    assert list(header_lines(b"ply\nend\n\r\r")) == [("ply", 4), ("end", 8)]


def test_only_zeros_may_follow_the_data():
    check_end(b"data", 4, "a")
    for zeros in (16, 17, 64, 4096, 2**16):
        check_end(b"data" + bytes(zeros), 4, "a")
    for page in (4096, 8192, 65536):
        check_end(b"1" * (page - 3) + bytes(3), page - 3, "a")
    for rest in (b"\n", b"\0\0\1", b"\0", bytes(15), bytes(4091) + b"1", bytes(2**16 + 1), bytes(2**17 - 4)):
        with pytest.raises(CloudError, match=f"a: {len(rest)} bytes are left over"):
            check_end(b"data" + rest, 4, "a")
