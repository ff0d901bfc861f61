"""`eventide recommend`: a configuration for your data and machine, with the reason for each choice."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eventide.types import EventKind, UsageError

if TYPE_CHECKING:
    from eventide.engine.recommend.gather import Data, Options, Question

PLACE = "my.yaml"  # the name of the file in the commands that are shown, where it goes to standard output


# The options that take files, and those that would be too long for a line below.
Annotations = Annotated[Path | None, Parameter(help="Annotation file: events, classes, lengths and rates are read.")]
Features = Annotated[list[Path] | None, Parameter(help="Folder of feature files (only headers are read), or several.")]
Second = Annotated[Path | None, Parameter(help="The same recordings annotated again: how noisy the labels are.")]
Length = Annotated[str | None, Parameter(help="Longest recording: short (to 2048 vectors), long, or a number.")]
Goals = Annotated[
    list[Literal["quality", "speed", "prototype", "deployment"]] | None,
    Parameter(help="What is critical; several are possible. Default: quality and speed."),
]
Memory = Annotated[float | None, Parameter(help="GB of one GPU, or of a machine without. Default: this machine's.")]


def recommend(
    *,
    annotations: Annotations = None,
    features: Features = None,
    second_annotator: Second = None,
    split: Annotated[list[str] | None, Parameter(help="Subset to train on. Default: training.")] = None,
    events: Annotated[EventKind | None, Parameter(help="What to find.")] = None,
    labels: Annotated[Literal["clean", "noisy"] | None, Parameter(help="How exact annotated boundaries are.")] = None,
    length: Length = None,
    goal: Goals = None,
    gpus: Annotated[int | None, Parameter(help="GPUs to train on. Default: those of this machine.")] = None,
    memory: Memory = None,
    feat_stride: Annotated[float | None, Parameter(help="Frames from one vector to the next.")] = None,
    num_frames: Annotated[float | None, Parameter(help="Frames that one vector covers.")] = None,
    fps: Annotated[float | None, Parameter(help="Frames per second of all recordings.")] = None,
    classes: Annotated[int | None, Parameter(help="Number of classes. Default: those of the annotations.")] = None,
    input_dim: Annotated[int | None, Parameter(help="Channels of a feature vector.")] = None,
    output: Annotated[Path | None, Parameter(help="File to write. Default: standard output.")] = None,
    force: Annotated[bool, Parameter(help="Overwrite the output if it exists.")] = False,
) -> None:
    """Write a configuration for your data and machine, with the reason for each choice as a comment on its line.

    What is not given and not in the files is asked for on a terminal; elsewhere the missing options are named.
    """
    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists already; give another name, or --force to overwrite it")
    from eventide.engine.recommend.gather import Options, read_data

    options = Options(
        events=events,
        labels=labels,
        length=length,
        goals=tuple(dict.fromkeys(goal)) if goal else None,
        gpus=gpus,
        memory=memory,
        annotations=annotations,
        second_annotator=second_annotator,
        features=tuple(features or ()),
        split=tuple(split or ("training",)),
        feat_stride=feat_stride,
        num_frames=num_frames,
        fps=fps,
        classes=classes,
        input_dim=input_dim,
    )
    data = read_data(options)
    if sys.stdin.isatty() and sys.stderr.isatty():
        options = ask(options, data)
    _write(options, data, output)


def ask(options: Options, data: Data) -> Options:
    """Ask on the terminal for what is not known yet; the questions go to standard error."""
    from rich.console import Console
    from rich.prompt import Prompt

    from eventide.engine.recommend.gather import answered, open_questions

    console = Console(stderr=True, highlight=False)
    while questions := open_questions(options, data):
        question: Question = questions[0]
        try:
            answer = Prompt.ask(
                question.text,
                console=console,
                choices=list(question.choices) or None,
                default=question.default or ...,
            )
        except EOFError:
            raise UsageError(f"no answer; the same is said with {question.flag}") from None
        try:
            options = answered(options, question, str(answer).strip())
        except UsageError as error:
            console.print(str(error), style="red", markup=False)
    return options


def _write(options: Options, data: Data, output: Path | None) -> None:
    from eventide.engine.recommend.advice import recommend as advise
    from eventide.engine.recommend.gather import situation_of
    from eventide.engine.recommend.text import recommendation_text
    from eventide.ops.files import write_text

    advice = advise(situation_of(options, data))
    text = recommendation_text(advice, options.words(), str(output or PLACE))
    if output is None:
        sys.stdout.write(text)
        return
    write_text(output, text)
    print(f"Written to {output}. Now: eventide check {shlex.quote(str(output))}")
