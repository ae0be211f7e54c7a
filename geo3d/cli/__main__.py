"""The command ``geo3d``: finds the job, and turns every exception into one line and an exit status.

Exit statuses: 0 for success, 1 for a fault of geo3d (a file keeps the traceback), 2 for a mistake of the user, 130 and
143 for a run that a signal stopped.
"""

import errno
import os
import sys
import tempfile
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import geo3d
from geo3d.cli import help as texts
from geo3d.cli.config import LAST, compose, config_dir, jobs, read, record
from geo3d.cli.interrupts import heeded
from geo3d.cli.notes import as_notes
from geo3d.errors import ConfigError, Geo3dError, did_you_mean

HELP = ("--help", "-h", "help")
USERS_ERRNO = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.ELOOP,
)  # fmt: skip
WRITE_A_FILE = ("inspect", "predict")
"""Jobs whose ``out`` is one file and no run folder."""
RENAMED = {"series": "sweep"}
"""Old name -> new name of commands of geo3d 0.2.0."""
LONGEST = 600
"""Longest line on the error stream, in characters."""


def main(argv: list[str] | None = None) -> int:
    """The exit status of ``geo3d`` with these command-line arguments (those of the process if None)."""
    words = sys.argv[1:] if argv is None else argv
    try:
        with heeded(), as_notes():
            readable(words)
            status = run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has stopped reading, as in `geo3d data list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return say("interrupted; finished work is kept", 130)
    except Exception as error:
        return explain(error, words)
    return status


def readable(words: list[str]) -> None:
    """Check that the arguments are text that can be printed and stored.

    Raises:
        ConfigError: If an argument has bytes that are not UTF-8, a line break or another control character.
    """
    for word in words:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
            raise ConfigError(f"{word!a}: expected text in UTF-8 without control characters, such as line breaks")


def run(words: list[str]) -> int:
    """The exit status, after the arguments have been carried out.

    Raises:
        ConfigError: If the first argument is not a command.
    """
    command, *rest = words or ["--help"]
    if command == "--version":
        print(f"geo3d {geo3d.__version__}")
    elif command in HELP:
        print(texts.overview())
    elif command in RENAMED:
        raise ConfigError(f"{command}: is now geo3d {RENAMED[command]}; its options are the same")
    elif command not in [*jobs(), *texts.TOOLS]:
        raise ConfigError(
            f"{command}: no such command; {did_you_mean(command, [*jobs(), *texts.TOOLS])}; see geo3d --help"
        )
    elif command in texts.TOOLS:
        return run_tool(command, rest)
    elif set(rest) & set(HELP):
        print(texts.usage(command, rest))
    else:
        run_job(command, rest)
    return 0


def run_tool(command: str, words: list[str]) -> int:
    """The exit status of a command that is not a job, such as ``bench``; without arguments it prints its usage.

    ``doctor`` takes no arguments, so it runs without any.
    """
    tool = import_module(f"geo3d.cli.{command}")
    if set(words) & set(HELP) or (not words and command != "doctor"):
        print(tool.USAGE)
        return 0
    return getattr(tool, command)(words) or 0


def run_job(command: str, words: list[str]) -> None:
    """Compose and check the configuration, build the objects that it names, and call the job."""
    stop = "--cfg" in words
    words = [as_pair(word, command) for word in words if word != "--cfg"]
    config = compose(command, words)
    import yaml

    import geo3d.jobs
    from geo3d.checks import parameters
    from geo3d.cli.build import build
    from geo3d.cli.check import check, settled
    from geo3d.cli.words import split
    from geo3d.io.owner import owned

    job = getattr(geo3d.jobs, command)
    config = settled(config, parameters(job), dict(map(split, words)))
    check(config, job, command)
    if stop:
        print(yaml.safe_dump(config, sort_keys=False), end="")
        return
    keywords = build(config)
    if command in WRITE_A_FILE:
        print("\n".join(figures(job(**keywords))))
        return
    with owned(config["out"]):
        record(command, config)
        result = job(**keywords)
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print("\n".join(figures(result)), f"all figures are in {Path(config['out']) / 'metrics.json'}", sep="\n")


def as_pair(word: str, command: str) -> str:
    """The argument unchanged, unless it is a file name where ``cloud=FILE`` is needed.

    Raises:
        ConfigError: If the command takes a cloud file, and the argument is not KEY=VALUE.
    """
    bare = "=" not in word.partition("/")[0] and not word.startswith("-")
    if bare and "cloud" in read(config_dir() / f"{command}.yaml"):
        raise ConfigError(f"{word or repr(word)}: expected KEY=VALUE; a cloud file is written cloud={word or 'FILE'}")
    return word


def figures(result: dict[str, Any], prefix: str = "", depth: int = 2) -> Iterator[str]:
    """One line with dotted name and value for each single value of a job's result, lists left out.

    Example:
        >>> list(figures({"epochs": 3, "test": {"accuracy": 0.912345}, "details": [1, 2]}))
        ['epochs  3', 'test.accuracy  0.9123']
    """
    for name, value in result.items():
        if isinstance(value, dict) and depth > 1:
            yield from figures(value, f"{prefix}{name}.", depth - 1)
        elif isinstance(value, bool | int | str):
            yield f"{prefix}{name}  {value}"
        elif isinstance(value, float):
            yield f"{prefix}{name}  {value:.4g}"


def explain(error: Exception, words: list[str]) -> int:
    """The exit status for an exception, after it has been explained on the error stream."""
    if isinstance(error, Geo3dError):
        text = str(error)
        if text.startswith("Caught "):  # of a data loader's worker: torch puts its whole traceback into the message
            text = text.strip().splitlines()[-1].partition(": ")[2]
        return say(text, 2)
    if disk_full(error):
        return say(f"{full_place(error, given_out(words))}; free space, run again", 2)
    if isinstance(error, OSError) and error.errno in USERS_ERRNO and error.filename:
        return say(f"{error.filename}: {os.strerror(error.errno or 0).lower()}", 2)
    if no_memory(error):
        return say("there is not enough memory; lower data.batch_size, data.num_points or the encoder's sizes", 2)
    if type(error).__name__ == "MisconfigurationException":  # Lightning raises it for options that exclude each other
        return say(f"trainer: {' '.join(str(error).split())}", 2)
    if type(error).__name__ == "StoppedError":  # geo3d.tasks.trainer.StoppedError; importing it here would load torch
        return say(str(error), 143)
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return say(f"this is a fault of geo3d: {reason}; the traceback is in {keep(error, words)}", 1)


def no_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch says so only in the message of a RuntimeError."""
    signs = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in signs))


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk caused an error; some libraries say so only in the message."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_place(error: Exception, out: str | None) -> str:
    """Which folder or file could not be written for lack of space, and whether an earlier checkpoint is intact.

    The message names a file's folder, because the file itself may have a temporary name that the user does not know.
    """
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # filename2 is the target of a copy
    folder = Path(name).parent if name else None
    if out and (folder is None or folder.absolute().is_relative_to(Path(out).absolute())):
        text = f"out={out}: could not be written, the disk is full"
        return f"{text}; the previous checkpoint is intact" if (Path(out) / LAST).is_file() else text
    return f"{folder or 'a file'}: could not be written, the disk is full"


def keep(error: Exception, words: list[str]) -> str:
    """Where the traceback was written: a file in the run folder, else a temporary file, else the error stream."""
    text = "".join(traceback.format_exception(error))
    folder = out_of(words)
    for place in ([Path(folder)] if folder else []) + [Path(tempfile.gettempdir()) / f"geo3d-{os.getpid()}"]:
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            (place / "traceback.txt").write_text(text, encoding="utf-8")
            return str(place / "traceback.txt")
    print(text, file=sys.stderr)
    return "the lines above"


def out_of(words: list[str]) -> str | None:
    """The run folder that ``out=DIR`` names; None without one, and for commands that are not jobs."""
    return None if words[:1] and words[0] in WRITE_A_FILE else given_out(words)


def given_out(words: list[str]) -> str | None:
    """What ``out=`` names, a folder or a file; None without one, and for commands that are not jobs."""
    if words[:1] and words[0] in texts.TOOLS:
        return None
    place = next((word[4:] for word in reversed(words) if word.startswith("out=") and word[4:]), None)
    return None if place is None else os.path.expanduser(place)


def say(text: str, status: int) -> int:
    """The status, after each line of the text has been printed as an error."""
    for line in text.splitlines():
        line = line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
        print(f"geo3d: error: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
