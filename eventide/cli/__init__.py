"""The command line: one small file per command, loaded only when it is used. No torch is imported here."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Sequence
from inspect import Parameter
from typing import Any, get_args

import cyclopts

from eventide.engine.processes import speaks
from eventide.ops.problems import words_of_system
from eventide.types import AlreadySaidError, EventideError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# A process that leaves the message to another one lets it speak: launchers end all others when the first one fails.
SECONDS_TO_SPEAK = 10.0
NUMBERS: dict[Any, str] = {int: "a whole number", float: "a number"}


def _version() -> str:
    from eventide import __version__  # looked up here: reading the package's metadata is slow

    return __version__


def make_app(name: str | Sequence[str], help: str) -> cyclopts.App:
    """An app in the house style: an option may take several values after one flag (`--tiou 0.3 0.5`)."""
    return cyclopts.App(
        name=name,
        help=help,
        version=_version,
        help_format="plaintext",  # Markdown costs a fifth of the start-up time
        default_parameter=cyclopts.Parameter(consume_multiple=1, negative=(), converter=_convert),  # at least one value
        suppress_keyboard_interrupt=False,  # `run` answers it
    )


def _convert(hint: Any, tokens: Sequence[cyclopts.Token]) -> Any:
    """As the parser does by itself, but for whole numbers: it would take 1.6 for 2."""
    if int in (hint, *get_args(hint)):
        for token in tokens:
            if "." in token.value:
                raise cyclopts.CoercionError(token=token, target_type=int)
    return cyclopts.convert(hint, tokens)


app = make_app("eventide", "Find when things happen: segments and point events in long recordings.")
config_app = make_app("config", "Show a configuration as it will be used, or the schema of all keys.")
app.command(config_app)
for _group, _name, _target, _help in (
    (config_app, "show", "config:show", "Print a resolved configuration with the origin of each value."),
    (config_app, "schema", "config:schema", "Print the JSON schema of configuration files."),
    (
        app,
        "recommend",
        "recommend:recommend",
        "Write a configuration for your data and machine, with the reason for each choice.",
    ),
    (app, "check", "check:check", "Check the data of a configuration and report every problem at once."),
    (app, "predict", "predict:predict", "Find events in feature files with a trained model."),
    (app, "calibrate", "calibrate:calibrate", "Make scores, thresholds and intervals of a trained model right."),
    (app, "eval", "evaluate:evaluate", "Score a results file against annotations."),
    (app, "plot", "plot:plot", "Draw ground truth against detections, and precision-recall curves."),
    (app, "bench", "bench:bench", "Measure operations, time and memory of a configuration on this machine."),
    (
        app,
        "import-actionformer",
        "import_actionformer:import_actionformer",
        "Convert a checkpoint of the published ActionFormer code.",
    ),
    (app, "shard", "shard:shard", "Store features as a few large files, also behind a URL, for sets beyond the disk."),
    (app, "make-toy", "make_toy:make_toy", "Write a tiny generated data set for a configuration, to try it at once."),
    (app, "make-demo-data", "make_demo_data:make_demo_data", "Write the small generated data set of the demo."),
):
    _group.command(f"eventide.cli.{_target}", name=_name, help=_help, show=_name != "make-demo-data")


def run(application: cyclopts.App, arguments: Sequence[str] | None = None) -> int:
    """Run an app and return its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    Problems that the user can mend become one message on standard error. `arguments` are the words after the program
    name (default: those of this process). A command may return an exit code; None counts as 0.
    """
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        _use_own_help(application, words)
        result = application(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except AlreadySaidError as error:
        return _leave_to_others(EXIT_USAGE if error.is_usage else EXIT_FAILED)
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    except EventideError as error:
        return _fail(str(error), EXIT_FAILED)
    except cyclopts.CycloptsError as error:
        return _fail(_parse_message(error), EXIT_USAGE) if speaks() else _leave_to_others(EXIT_USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED) if speaks() else EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (`| head`) has left: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # disk full, no permission, a folder that vanished
        return _fail(words_of_system(error), EXIT_FAILED)
    return result if isinstance(result, int) else 0


def _use_own_help(application: cyclopts.App, words: Sequence[str]) -> None:
    """Let the command that is called show its whole docstring; the short text is for the list of commands."""
    for word in words:
        command = getattr(application, "_commands", {}).get(word)
        if isinstance(command, cyclopts.App):
            application = command
        elif command is not None:
            command.help = None
            return


def _parse_message(error: cyclopts.CycloptsError) -> str:
    """What is wrong with the words of a command line, in one line."""
    if isinstance(error, cyclopts.UnknownCommandError) and error.app is not None and error.unused_tokens:
        known = sorted(name for name in error.app if not name.startswith("-"))
        near = difflib.get_close_matches(error.unused_tokens[0], known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"the commands are: {', '.join(known)}"
        return f"unknown command {error.unused_tokens[0]!r}; {hint}"
    message = " ".join(str(error).split())
    if type(error) is cyclopts.MissingArgumentError and error.argument is not None and not error.argument.tokens:
        name = error.argument.names[0]
        if name in (error.root_input_tokens or ()):
            message = f"{name} needs a value"
        elif error.argument.field_info.kind is Parameter.KEYWORD_ONLY:
            message = f"{name} is missing"
        else:
            message = f"{name.lstrip('-').upper()} is missing"
    elif isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        message = f"a word too many: {error.unused_tokens[0]!r}"
    elif isinstance(error, cyclopts.CoercionError) and error.token is not None and error.target_type in NUMBERS:
        name = error.token.keyword or "a value"
        message = f"{name} {error.token.value}: give {NUMBERS[error.target_type]}"
    command = " ".join(error.command_chain or ())
    return f"{command}: {message} (see --help)" if command else f"{message} (see --help)"


def _leave_to_others(code: int) -> int:
    """End with `code`, once the process that says why has had time to."""
    try:
        time.sleep(SECONDS_TO_SPEAK)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `eventide` command."""
    sys.exit(run(app, arguments))
