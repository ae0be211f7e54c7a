from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pytest

from geo3d.checks import Length, checked
from geo3d.errors import ConfigError
from geo3d.home import alternatives, expanded, home

NOBODY = "~nobody-of-that-name"


def test_the_home_folder_is_put_in_once(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert (home("~"), home("~/x"), home("a~"), home("./~x"), home("/~")) == (
        "/somewhere", "/somewhere/x", "a~", "./~x", "/~",
    )  # fmt: skip
    assert expanded(expanded("~/x", str | Path), str | Path) == "/somewhere/x"
    assert expanded(Path("~"), Annotated[str | Path, Length(1, 9)]) == Path("/somewhere")


@pytest.mark.parametrize(
    ("value", "annotation", "option"),
    [
        (NOBODY, str | Path, "out"),
        (f"{NOBODY}/x", Path, "out"),
        (Path(NOBODY), str | Path | None, "out"),
        (["a", f"{NOBODY}/x"], Sequence[str | Path], "out"),
        ({"a": f"{NOBODY}/x"}, Mapping[str, str | Path], "out.a"),
    ],
)
def test_the_home_of_nobody_is_refused(value, annotation, option):
    with pytest.raises(ConfigError, match=rf"^{option}: {NOBODY}(/x)?: expected ~ or a user .* found no such user"):
        expanded(value, annotation, "out")


def test_text_that_is_no_path_stays():
    assert expanded(NOBODY, str, "name") == NOBODY and expanded([NOBODY], Sequence[str], "names") == [NOBODY]


def test_a_job_called_from_python_names_its_option():
    @checked
    def job(*, out: str | Path) -> None: ...

    with pytest.raises(ConfigError, match=rf"job\.out: {NOBODY}: "):
        job(out=NOBODY)


def test_alternatives_of_unions():
    assert alternatives(str | Path | None) == (str, Path, type(None)) and alternatives(int) == (int,)
