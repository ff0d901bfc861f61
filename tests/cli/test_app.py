"""The command line as a whole: commands, exit codes, one message per problem; what it does not import."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, NoReturn

import cyclopts
import pytest

from eventide.cli import app, main, make_app, run
from eventide.types import AlreadySaidError, EventideError, UsageError
from tests.conftest import RunCli, run_python

COMMANDS = [
    "bench",
    "calibrate",
    "check",
    "config",
    "eval",
    "import-actionformer",
    "make-demo-data",
    "make-toy",
    "plot",
    "predict",
    "recommend",
    "shard",
]


def application(action: Callable[[], object]) -> cyclopts.App:
    """An app whose command `go` does `action`."""
    made = make_app("test", "A test.")

    @made.command
    def go(
        *,
        tiou: list[float] | None = None,
        set_: Annotated[list[str] | None, cyclopts.Parameter(name="--set")] = None,
        keep: bool = False,
        runs: int = 1,
        lengths: Annotated[list[int] | None, cyclopts.Parameter(help="Vectors.")] = None,
    ) -> object:
        print(tiou, set_, keep, runs, lengths)
        return action()

    @made.command
    def one(file: str, *, to: str) -> None:
        print(file, to)

    return made


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise error

    return action


def test_commands() -> None:
    assert sorted(name for name in app if not name.startswith("-")) == COMMANDS


@pytest.mark.parametrize(
    ("label", "action", "code", "message"),
    [
        ("done", lambda: None, 0, ""),
        ("a code of its own", lambda: 1, 1, ""),
        ("something else returned", lambda: "text", 0, ""),
        ("failed", raising(EventideError("no features in x")), 1, "error: no features in x\n"),
        ("wrong use", raising(UsageError("no such file x")), 2, "error: no such file x\n"),
        (
            "system",
            raising(OSError(28, "No space left on device", "out.json")),
            1,
            "error: No space left on device: out.json\n",
        ),
        ("interrupted", raising(KeyboardInterrupt()), 130, "error: interrupted\n"),
    ],
)
def test_exit_codes(
    capsys: pytest.CaptureFixture[str], label: str, action: Callable[[], object], code: int, message: str
) -> None:
    assert run(application(action), ["go"]) == code
    assert capsys.readouterr().err == message


def test_a_defect_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(application(raising(ZeroDivisionError())), ["go"])


def test_one_option_takes_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["go", "--tiou", "0.3", "0.5", "--set", "a.b=1", "c=[1, 2]", "--set", "d=-3"]
    words += ["--runs", "3", "--lengths", "-4", "5"]
    assert run(application(lambda: None), words) == 0
    assert capsys.readouterr().out == "[0.3, 0.5] ['a.b=1', 'c=[1, 2]', 'd=-3'] False 3 [-4, 5]\n"


@pytest.mark.parametrize(
    ("label", "words", "message"),
    [
        ("unknown command", ["goo"], "unknown command 'goo'; did you mean go?"),
        ("nothing like it", ["xyz"], "unknown command 'xyz'; the commands are: go, one"),
        ("unknown option", ["go", "--keeep"], "--keeep"),
        ("not a number", ["go", "--tiou", "high"], "go: --tiou high: give a number (see --help)"),
        ("not a whole number", ["go", "--runs", "1.6"], "go: --runs 1.6: give a whole number (see --help)"),
        ("one of several", ["go", "--lengths", "2", "0.5"], "go: --lengths 0.5: give a whole number"),
        ("neither number nor whole", ["go", "--runs", "x.y"], "go: --runs x.y: give a whole number"),
        ("no value", ["go", "--set"], "--set"),
        ("a word too many", ["go", "more"], "go: a word too many: 'more'"),
        ("nothing given", ["one"], "one: FILE is missing"),
        ("no option", ["one", "x"], "one: --to is missing"),
        ("option without value", ["one", "x", "--to"], "one: --to needs a value"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], label: str, words: list[str], message: str) -> None:
    assert run(application(lambda: None), words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", [["chek"], ["config", "shwo"]], ids=" ".join)
def test_misspelt_commands_of_eventide(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["config"], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_of_every_command_loads_no_torch(command: list[str]) -> None:
    code = f"""
import sys
from eventide.cli import app, run
code = run(app, {[*command, "--help"]!r})
print("HEAVY", [name for name in ("torch", "numba", "matplotlib") if name in sys.modules], code)
"""
    done = run_python(["-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("HEAVY [] 0"), done.stdout[-500:]
    assert "Usage" in done.stdout


def test_help_of_a_command_is_its_whole_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["config", "show", "--help"]) == 0
    assert "which can be used as a configuration file" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("module", ["eventide", "eventide.cli"])
def test_python_m(module: str) -> None:
    done = run_python(["-m", module, "config", "schema"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["title"] == "Config"


def test_a_closed_pipe_is_no_error() -> None:
    done = run_python(
        [
            "-c",
            "import subprocess, sys\n"
            "p = subprocess.Popen([sys.executable, '-m', 'eventide', 'config', 'schema'],"
            " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
            "p.stdout.read(1); p.stdout.close()\n"
            "print(p.stderr.read().decode(), p.wait())",
        ]
    )
    assert done.stdout.strip() == "0", done.stdout


def test_the_exit_code_reaches_the_shell(run_cli: RunCli) -> None:
    done = run_cli(["config", "show", "nothing-here.yaml"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: nothing-here.yaml: no such configuration file\n"


SECOND_OF_TWO = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "1"}
LEFT_TO_OTHERS = [
    pytest.param(raising(AlreadySaidError("bad data", False)), ["go"], 1, id="failed"),
    pytest.param(raising(AlreadySaidError("bad setting", True)), ["go"], 2, id="wrong use"),
    pytest.param(lambda: None, ["go", "--outptu", "a"], 2, id="unknown option"),
]


@pytest.mark.parametrize(("action", "words", "code"), LEFT_TO_OTHERS)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_process_that_leaves_the_message_to_another_gives_it_time(
    action: Callable[[], object],
    words: list[str],
    code: int,
    interrupted: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """torchrun ends all others when the first one fails; Ctrl-C meanwhile shows no traceback."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if interrupted:
            raise KeyboardInterrupt

    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("eventide.cli.time.sleep", sleep)
    assert run(application(action), words) == (130 if interrupted else code)
    assert len(pauses) == 1
    assert capsys.readouterr().err == ""
