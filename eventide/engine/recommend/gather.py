"""From flags, files and answers to a situation; what is still unknown becomes questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from eventide.data.annotations import load_annotations
from eventide.data.disagreement import FEWEST_PAIRS, disagreement
from eventide.data.feature_survey import FeatureFacts, survey_features
from eventide.data.survey import Survey, survey
from eventide.engine.machine import Machine, this_machine
from eventide.engine.recommend.situation import GOALS, Data, Goal, Grid, Labels, Situation
from eventide.types import EventideError, EventKind, UsageError

# Noise counts from this share of the median event, or from one grid step.
NOISY_SHARE = 0.1
LENGTH_WORDS = {"short": 2048, "long": 8192}  # vectors that the words stand for
SHORT_EVENTS = 0.5  # share of the events that are shorter than a grid step, from which they are points


@dataclass(frozen=True)
class Options:
    """What was given on the command line, or answered; None: not given."""

    events: EventKind | None = None
    labels: Labels | None = None
    length: str | None = None  # short, long, or a number of vectors
    goals: tuple[Goal, ...] | None = None
    gpus: int | None = None
    memory: float | None = None  # GB
    annotations: Path | None = None
    second_annotator: Path | None = None
    features: tuple[Path, ...] = ()
    split: tuple[str, ...] = ("training",)
    feat_stride: float | None = None
    num_frames: float | None = None
    fps: float | None = None
    classes: int | None = None
    input_dim: int | None = None
    source: dict[str, str] = field(default_factory=dict)  # where an answer comes from, if not from its flag

    def words(self) -> list[str]:
        """The words of a command line that says the same, answers included."""
        found: list[str] = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "source" or value is None or value == () or (item.name, value) == ("split", ("training",)):
                continue
            name = "goal" if item.name == "goals" else item.name.replace("_", "-")
            values = value if isinstance(value, tuple) else (value,)
            found += [f"--{name}", *(f"{part:g}" if isinstance(part, float) else str(part) for part in values)]
        return found


@dataclass(frozen=True)
class Question:
    """Something that no flag or file has told. `flag` is the option that answers it, `choices` what may be typed."""

    name: str  # of the field of `Options`
    flag: str
    text: str
    choices: tuple[str, ...]
    default: str | None = None
    needed: bool = True  # without it there is no recommendation; else there is an assumption


def read_data(options: Options) -> Data:
    """The facts of the files that were named.

    Raises:
        UsageError, EventideError: a file is missing, or wrong; all problems of an annotation file in one message.
    """
    _check_numbers(options)
    plain = Data(classes=options.classes, input_dim=options.input_dim, num_frames=options.num_frames, fps=options.fps)
    if options.annotations is None:
        given = [
            flag
            for flag, value in (("--features", options.features), ("--second-annotator", options.second_annotator))
            if value
        ]
        if given:
            raise UsageError(f"{' and '.join(given)} need(s) --annotations FILE, which names the recordings")
        return replace(plain, grid=_grid(options, None, ()))
    annotations = load_annotations(options.annotations)
    found = survey(annotations, options.split)
    if options.classes is not None and 1 < options.classes < len(found.labels):
        raise UsageError(
            f"--classes {options.classes}: {options.annotations} has {len(found.labels)}; give as many or more, or 1 "
            "to find events of any class"
        )
    features = tuple(survey_features(folder, found.recordings, options.fps) for folder in options.features)
    for item in features[1:]:
        if (item.prefix, item.ending) != (features[0].prefix, features[0].ending):
            raise EventideError(
                f"--features: files are named {features[0].prefix}ID{features[0].ending} in {features[0].folder}, but "
                f"{item.prefix}ID{item.ending} in {item.folder}; name them alike"
            )
    noise = None
    if options.second_annotator is not None:
        second = load_annotations(options.second_annotator)
        noise = disagreement(annotations.recordings, second.recordings, annotations.labels, second.labels)
        if not noise.recordings:
            raise EventideError(f"{options.second_annotator}: has no recording of {options.annotations}")
    grid = _grid(options, found, features)
    lengths, events = _in_vectors(found, features, grid)
    return replace(
        plain,
        annotations=str(options.annotations),
        survey=found,
        features=features,
        grid=grid,
        lengths=lengths,
        events=events,
        disagreement=noise,
    )


def _check_numbers(options: Options) -> None:
    """Numbers that make no sense, and goals that exclude one another."""
    for flag, value, least in (
        ("--gpus", options.gpus, 0),
        ("--classes", options.classes, 1),
        ("--input-dim", options.input_dim, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{flag} {value}: give {least} or more")
    for flag, number in (
        ("--memory", options.memory),
        ("--feat-stride", options.feat_stride),
        ("--num-frames", options.num_frames),
        ("--fps", options.fps),
    ):
        if number is not None and not 0 < number < float("inf"):
            raise UsageError(f"{flag} {number:g}: give a number above 0")
    if options.length is not None:
        parse_length(options.length)
    if options.goals and "prototype" in options.goals and len(set(options.goals)) > 1:
        others = " and ".join(goal for goal in options.goals if goal != "prototype")
        raise UsageError(f"--goal prototype is the simplest there is; it does not go with {others}")


def _grid(options: Options, found: Survey | None, features: Sequence[FeatureFacts]) -> Grid | None:
    """Stride, coverage and rate of the features, from flags first."""
    measured = features[0] if features else None
    stride, why_stride = options.feat_stride, "--feat-stride"
    if stride is None and measured is not None and measured.feat_stride is not None:
        stride = measured.feat_stride
        why_stride = (
            f"measured: durations against {measured.files} feature file(s), {measured.measured or 0:.4g} frames"
        )
        if stride <= 0:
            why_stride = f"every file has {measured.vectors} vectors, whatever its recording's duration"
    if stride is None:
        return None
    frames, why_frames = options.num_frames, "--num-frames"
    if frames is None and measured is not None and measured.num_frames is not None:
        frames, why_frames = measured.num_frames, "measured: what is left of the recordings after the last step"
    elif frames is None:
        frames = max(stride, 1.0)
        why_frames = "assumed: as feat_stride; if your extractor looks at more frames, put their number here"
    fps, why_fps = options.fps, "--fps"
    if fps is None:
        fps = found.fps if found is not None else None
        why_fps = "frames per second in the annotations, one for all" if fps else "each recording has its own rate"
    return Grid(stride, frames, fps, (why_stride, why_frames, why_fps))


def _in_vectors(
    found: Survey, features: Sequence[FeatureFacts], grid: Grid | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Vectors per training recording, and training segments in grid steps; None where the grid is unknown."""
    if grid is None:
        return None, None
    seconds = found.lengths()
    if grid.feat_stride <= 0:
        if not features:
            return None, None
        lengths = np.full(len(seconds), float(features[0].vectors))
        steps = np.maximum(seconds, 1e-9) / lengths
    else:
        rates = np.array([grid.fps or recording.fps or np.nan for recording in found.recordings])
        steps = grid.feat_stride / rates
        if not np.isfinite(steps).all():
            return None, None
        lengths = np.maximum(np.ceil(seconds / steps), 1)
    return lengths, found.durations / steps[found.recording_of]


def open_questions(options: Options, data: Data) -> list[Question]:
    """What neither flags nor files have told, in the order of the tree."""
    questions = []
    if options.events is None and data.survey is None:
        text = "What are you looking for: segments with a start and an end, or points in time?"
        questions.append(Question("events", "--events segments|points", text, ("segments", "points"), "segments"))
    if options.labels is None and data.disagreement is None and _may_be_segments(options, data):
        text = "Are the boundaries in your labels clean, or noisy (several annotators, a crowd, gradual transitions)?"
        needed = data.survey is None
        questions.append(Question("labels", "--labels clean|noisy", text, ("clean", "noisy"), "clean", needed))
    if options.length is None and data.lengths is None:
        text = "How long is the longest training recording (feature vectors, or short: up to 2048, long: more)?"
        flag = "--length short|long|VECTORS"
        if data.survey is not None:
            flag += " (or --features DIR, or --feat-stride FRAMES)"
        questions.append(Question("length", flag, text, ()))
    if options.gpus and options.memory is None and not this_machine().gpus:
        text = "How much memory has each GPU (GB)?"
        questions.append(Question("memory", "--memory GB (of one GPU)", text, ()))
    if options.goals is None:
        text = "What matters most?"
        choices = ("both", "quality", "speed", "prototype", "deployment")
        questions.append(Question("goals", "--goal", text, choices, "both", needed=False))
    return questions


def _may_be_segments(options: Options, data: Data) -> bool:
    return (options.events or (data.survey and find_events(data)[0])) != "points"


def answered(options: Options, question: Question, answer: str) -> Options:
    """The options with the answer to a question; UsageError where it is none."""
    source = {**options.source, question.name: "your answer"}
    if question.name == "goals":
        goals = tuple(goal for goal in GOALS if goal == answer or (answer == "both" and goal in ("quality", "speed")))
        return replace(options, goals=goals, source=source)
    if question.name == "memory":
        return replace(options, memory=parse_memory(answer), source=source)
    if question.name == "length":
        parse_length(answer)
    return replace(options, **{question.name: answer}, source=source)  # type: ignore[arg-type]


def parse_length(text: str) -> int:
    """Vectors that `--length` stands for."""
    if text in LENGTH_WORDS:
        return LENGTH_WORDS[text]
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise UsageError(f"--length {text}: give short, long, or a number of feature vectors from 1")
    return int(text)


def parse_memory(text: str) -> float:
    """Gigabytes that were typed."""
    try:
        size = float(text.lower().removesuffix("gb"))
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise UsageError(f"{text!r} is no amount of memory; give a number of GB, such as 24")
    return size


def situation_of(options: Options, data: Data) -> Situation:
    """The situation once nothing that is needed is unknown.

    Raises:
        UsageError: something is; the message names the flags.
    """
    unknown = [question for question in open_questions(options, data) if question.needed]
    if unknown:
        flags = ", ".join(question.flag for question in unknown)
        raise UsageError(f"not enough to go by: add {flags}; or answer questions on a terminal, without redirection")
    because = {}
    events, because["events"] = _given(options, "events") or find_events(data)
    if events == "segments" and data.survey is not None and not len(data.survey.durations):
        raise UsageError(
            f"--events segments: all {data.survey.points} training events in {data.annotations} are points (`time`), "
            "which have no end; leave the option out, or choose points"
        )
    noisy, because["noisy"] = find_noise(options, data)
    if options.length is not None:
        longest, because["longest"] = parse_length(options.length), _source(options, "length", options.length)
    else:
        longest = int(data.lengths.max()) if data.lengths is not None else 1
        because["longest"] = "--annotations and feature headers" if data.features else "--annotations, --feat-stride"
    goals: tuple[Goal, ...] = options.goals or ("quality", "speed")
    because["goals"] = _source(options, "goal", *goals) if options.goals else "assumed, no --goal was given"
    machine, because["machine"] = find_machine(options)
    return Situation(events, noisy, longest, frozenset(goals), machine, data, because)  # type: ignore[arg-type]


def _source(options: Options, name: str, *values: str) -> str:
    answer = options.source.get({"goal": "goals"}.get(name, name))
    return f"{answer}: {' '.join(values)}" if answer else f"--{name} {' '.join(values)}"


def _given(options: Options, name: str) -> tuple[str, str] | None:
    value = getattr(options, name)
    return None if value is None else (value, _source(options, name, value))


def find_events(data: Data) -> tuple[EventKind, str]:
    """Segments or points, and why, from the annotations."""
    found = data.survey
    if found is None:
        raise UsageError("not enough to go by: add --events segments|points, or --annotations FILE")
    if 2 * found.points >= found.events:
        return "points", f"{found.points} of {found.events} training events are annotated as `time`"
    if data.events is not None:
        short = int((data.events < 1).sum())
        if short > SHORT_EVENTS * len(data.events):
            return (
                "points",
                f"{short} of {len(data.events)} segments are shorter than one grid step: moments, not spans",
            )
    return (
        "segments",
        f"{len(found.durations)} in --annotations, half of them last {np.median(found.durations):.3g} s or more",
    )


def find_noise(options: Options, data: Data) -> tuple[bool, str]:
    """Whether the labels are noisy, and why."""
    if options.labels is not None:
        return options.labels == "noisy", _source(options, "labels", options.labels)
    found = data.disagreement
    if found is None:
        return False, "assumed; --labels noisy or --second-annotator FILE would say otherwise"
    if found.pairs < FEWEST_PAIRS:
        return False, f"assumed: two annotators share {found.pairs} events, which says little"
    pairs = f"{found.pairs} events of two{found.without}"
    text = f"one annotator's boundaries vary by {found.noise:.3g} s (standard deviation, {pairs})"
    median = float(np.median(data.survey.durations)) if data.survey and len(data.survey.durations) else None
    step = data.grid.step if data.grid else None
    if step is not None and found.noise >= step:
        return True, f"{text}, a grid step of {step:.3g} s or more"
    if median and found.noise >= NOISY_SHARE * median:
        return True, f"{text}, {100 * found.noise / median:.0f}% of the median event"
    limits = [f"a grid step ({step:.3g} s)"] if step is not None else []
    limits += [f"{100 * NOISY_SHARE:.0f}% of the median event ({NOISY_SHARE * median:.3g} s)"] if median else []
    return False, f"{text}, less than {' and '.join(limits) or 'what matters'}"


def find_machine(options: Options) -> tuple[Machine, str]:
    """The machine to train on: this one, unless flags describe another."""
    here = this_machine()
    if options.gpus is None and options.memory is None:
        return here, "this machine"
    memory = None if options.memory is None else int(options.memory * 1e9)
    flags = " ".join(
        [f"--gpus {options.gpus}"] * (options.gpus is not None)
        + [f"--memory {options.memory or 0:g}"] * (options.memory is not None)
    )
    gpus = here.gpus if options.gpus is None else options.gpus
    same_kind = (gpus > 0) == (here.gpus > 0)
    if memory is None and same_kind:
        memory = here.memory
    name = here.name if same_kind and options.memory is None else ""
    return replace(here, gpus=gpus, memory=memory, name=name, bfloat16=here.bfloat16 or gpus > 0), flags
