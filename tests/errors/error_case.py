"""One way to get it wrong: what the user did, and what Eventide must answer. `docs/errors.md` is made from these."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eventide.types import EventideError, UsageError


@dataclass(frozen=True)
class ErrorCase:
    """`run` gets an empty folder, makes the bad input in it and calls the real API, or `run_cli`."""

    label: str  # short and unique: the test's id
    how: str  # what the user did, a phrase for the table
    run: Callable[[Path], object]
    message: str  # regular expression that must be found in the message
    exit_code: int  # 1 failed, 2 wrong use


@dataclass(frozen=True)
class Outcome:
    """What the user saw. `message` has the case's folder written as `DIR`, so that it is the same on every machine."""

    message: str
    exit_code: int


class CommandLineError(Exception):
    """A command ended with an exit code other than 0; the message is all it wrote to standard error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_cli(arguments: Sequence[str | Path], folder: Path) -> str:
    """Run `eventide ARGUMENTS` in `folder` (in this process); its standard output, or CommandLineError."""
    from eventide.cli import app, run

    output, errors, before = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = run(app, [str(argument) for argument in arguments])
    finally:
        os.chdir(before)
    if code:
        raise CommandLineError(errors.getvalue().removeprefix("error: ").strip(), code)
    return output.getvalue()


def outcome_of(case: ErrorCase, folder: Path) -> Outcome:
    """Run a case in `folder`; an exception that is none of ours passes through, as it would to the user."""
    try:
        case.run(folder)
    except CommandLineError as error:
        message, code = str(error), error.exit_code
    except UsageError as error:
        message, code = str(error), 2
    except EventideError as error:
        message, code = str(error), 1
    else:
        return Outcome("", 0)
    return Outcome(message.replace(str(folder), "DIR"), code)
