import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from torch import nn

from geo3d.checks import Length, Like, OneOf, Range, Seed, checked, described, fits, parameters, shown
from geo3d.errors import ConfigError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [0, -3, 10**30, np.int64(3)], [True, 1.0, "1", None, [1], float("nan")]),
        (
            float,
            [0, 0.5, -1e300, np.float32(1), Fraction(1, 3)],
            [True, "1", None, float("nan"), float("inf"), 10**400],
        ),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "x"], [1, None, b"x", Path("x")]),
        (str | Path, ["x", Path("x"), "~"], ["", 1, None, ["x"]]),
        (Path, ["x", Path("x")], ["", 1]),
        (None, [None], [0, ""]),
        (Literal[8, 16], [8, 16], [8.0, True, 9, "8", [8]]),
        (Annotated[int, Range(1, 4)], [1, 4], [0, 5, 2.0, 10**20, -(10**20)]),
        (Annotated[float, Range(0, 10, above=True)], [1e-9, 10], [0, -0.0, 10.0001, 1e300, float("nan")]),
        (Seed, [0, 2**63 - 1], [-1, 2**63, 1.0]),
        (Annotated[int, Range(1, 4)] | None, [None, 1], [0, ""]),
        (bool | Annotated[int, Range(0, 4)], [True, 0, 4], [-1, 5]),
        (Annotated[str, OneOf("y", "z")], ["y"], ["x", "", 1, None, ["y"]]),
        (Annotated[str, Length(1, 3)], ["abc"], ["", "abcd", [1]]),
        (Annotated[str, Like(r"\d+", "digits")], ["12"], ["", "1x", "1\n", "\u0663", 1]),
        (Sequence[int], [[], [1], (1, 2)], ["12", 1, [1.5], {1: 2}, None]),
        (Annotated[Sequence[Annotated[int, Range(1, 9)]], Length(1, 2)], [[1], (9, 9)], [[], [1, 1, 1], [0]]),
        (tuple[int, ...], [[1], (1, 2)], [[1.5], 3]),
        (tuple[int, float], [[1, 2.0]], [[1], [1.5, 2.0], [1, 2, 3]]),
        (Mapping[str, int], [{}, {"a": 1}], [[], {"a": "b"}, {1: 1}, None]),
        (dict[str, Any], [{"a": []}], [[], {1: 1}]),
        (nn.Module, [nn.Identity()], [nn.Identity, len, {}, "x", None]),
        (Callable[..., Any], [len, nn.Identity], [3, "len", None]),
        (Any, [None, 3, "x", []], []),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),  # the same in every process
)
def test_fits(annotation, right, wrong):
    assert [value for value in right if not fits(value, annotation)] == []
    assert [value for value in wrong if fits(value, annotation)] == []


@checked
def job(
    out: str | Path,
    *paths: int,
    k: Annotated[int, Range(1, 9)] = 3,
    many: Sequence[str | Path] = (),
    named: Mapping[str, str | Path] | None = None,
    text: str = "~/x",
    **more: Any,
) -> dict[str, Any]:
    """A job."""
    return dict(locals())


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"k": 0}, "job.k: 0 is not an int from 1 to 9"),
        ({"k": 10**20}, "job.k: 100000000000000000000 is not an int from 1 to 9"),
        ({"k": "3"}, "job.k: '3' is not an int from 1 to 9"),
        ({"k": None}, "job.k: None is not an int from 1 to 9"),
        ({"many": "x"}, "job.many: 'x' is not a list of str"),
        ({"named": []}, "job.named: [] is not a mapping to str or null"),
        ({"many": ["x", ""]}, "job.many: ['x', ''] is not a list of str"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_in_one_line(keywords, said):
    with pytest.raises(ConfigError) as raised:
        job("x", **keywords)
    assert str(raised.value) == said


def test_the_home_folder_is_put_in_wherever_a_path_is_asked_for(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    found = job("~/x", many=["~", "a~", Path("~/y")], named={"a": "~/z"}, other="~/w")
    assert (found["out"], found["many"], found["named"]) == (
        "/somewhere/x",
        ["/somewhere", "a~", Path("/somewhere/y")],
        {"a": "/somewhere/z"},
    )
    assert found["text"] == "~/x" and found["more"] == {"other": "~/w"}


def test_a_checked_function_is_still_itself():
    assert job.__name__ == "job" and job.__doc__ == "A job."
    assert list(parameters(job)) == ["out", "k", "many", "named", "text", "**"]
    with pytest.raises(TypeError, match="missing a required argument: 'out'"):
        job()


def test_a_checked_constructor_is_named_by_its_class():
    class Layer:
        @checked
        def __init__(self, size: Annotated[int, Range(1, 9)]) -> None:
            self.size = size

    assert Layer(np.int64(3)).size == 3
    with pytest.raises(ConfigError, match=r"^Layer\.size: -1 is not an int from 1 to 9$"):
        Layer(-1)


def test_annotations_in_words():
    assert described(Annotated[Sequence[Annotated[int, Range(1, 9)]], Length(2, 2)]) == (
        "a list of int from 1 to 9 of length 2"
    )
    assert described(Annotated[str, Like("x", "like x")] | None) == "like x or null"
    assert described(Annotated[float, Range(1e-4, 1e6)]) == "a float from 0.0001 to 1000000"


def test_a_value_is_shown_short_whatever_it_is():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, 10**6000, deep, list(range(10**5))):
        assert len(shown(value)) < 100
