"""`eventide predict`: find events in feature files with a trained model."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eventide.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from eventide.cli.predict_shown import Shown, first_before_others, said_once, showing
from eventide.types import EventideError, UsageError

if TYPE_CHECKING:
    from eventide.config import Config
    from eventide.engine.predict import Predictor
    from eventide.engine.predict_files import FolderWork, Work
    from eventide.engine.predict_run import Outcome
    from eventide.engine.processes import Launch


FIXED = ("model", "opt", "train_cfg")  # sections that a trained model is made by


def predict(
    *,
    checkpoint: Annotated[Path, Parameter(help="Model file, training checkpoint or run folder.")],
    output: Annotated[Path, Parameter(help="Results file to write (JSON).")],
    features: Annotated[
        list[str] | None, Parameter(help="Folder of feature files or shards; several are joined along channels.")
    ] = None,
    config: Annotated[Path | None, Parameter(help="Configuration whose data is used, with --split.")] = None,
    split: Annotated[str | None, Parameter(help="Subset to predict, with --config.")] = None,
    annotations: Annotated[Path | None, Parameter(help="Annotation file: rates and durations of recordings.")] = None,
    fps: Annotated[float | None, Parameter(help="Frames per second where the annotations have none.")] = None,
    csv: Annotated[Path | None, Parameter(help="Also write a table (CSV) to this file.")] = None,
    batch_size: Annotated[int | None, Parameter(help="Recordings per forward pass; changes no result.")] = None,
    min_score: Annotated[float | None, Parameter(help="Leave out detections that score less.")] = None,
    operating_point: Annotated[
        bool, Parameter(help="Only detections that reach their label's threshold (eventide calibrate).", negative="")
    ] = False,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    amp: Annotated[bool, Parameter(help="Compute in bfloat16 or float16: faster, scores differ slightly.")] = False,
    force: Annotated[
        bool, Parameter(help="Overwrite files that exist; begin anew where OUTPUT.parts is of other settings.")
    ] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: test_cfg.max_seg_num=50.")] = None,
) -> int:
    """Find events with a trained model.

    Takes either --features DIR or --config FILE --split NAME. The rate of a recording is that of the annotations, else
    --fps, else the model's; its duration is that of the annotations.

    Finished recordings are kept in OUTPUT.parts until all are there: after an interruption the same command goes on.
    Under torchrun or srun every process takes a share of the recordings; OUTPUT is the same for any number of them.
    """
    from eventide.engine.processes import find_launch

    launch = find_launch()
    overrides = [*(set_ or ()), *([f"test_cfg.batch_size={batch_size}"] if batch_size is not None else ())]
    with said_once(launch):
        _check_use(features, config, split, fps, batch_size)
        _check_files(output, csv, force)
        _refuse(overrides, FIXED if config is None else FIXED[1:])
    options = {"fps": fps, "min_score": min_score, "operating_point": operating_point}
    begin = time.perf_counter()
    with first_before_others(launch), showing(launch, f"{output}.parts") as shown:
        from eventide.engine.memory import keep_freed_memory
        from eventide.engine.predict_run import Callbacks, Goal, predict_to_files

        keep_freed_memory()
        try:
            source = Source(checkpoint, features or [], config, split, annotations, fps, overrides)
            work, settings = _prepare(source, options, launch, device, amp)
            goal = Goal(output, csv, min_score, force)
            shows = Callbacks(shown.begin, shown.progress, shown.failure)
            outcome = predict_to_files(work, settings, goal, launch, shows)
        except KeyboardInterrupt:
            return _interrupted(launch, shown)
    return _ended(outcome, launch, shown, time.perf_counter() - begin, [output, csv])


@dataclass(frozen=True)
class Source:
    """What is predicted, as on the command line."""

    checkpoint: Path
    features: list[str]
    config: Path | None
    split: str | None
    annotations: Path | None
    fps: float | None
    overrides: list[str]


def _prepare(
    source: Source, options: dict[str, Any], launch: Launch, device: str, amp: bool
) -> tuple[Work, dict[str, Any]]:
    """The model with its recordings, and all that their results depend on."""
    from eventide import __version__
    from eventide.engine.predict import Predictor, load_stored
    from eventide.engine.predict_device import device_of_process
    from eventide.engine.predict_files import SplitWork, describe_features
    from eventide.engine.predict_run import result_settings

    for name in source.features:
        if "://" not in name and not Path(name).exists():
            raise UsageError(f"--features {name}: there is no such folder")
    device = device_of_process(device, launch)
    change = _with_keys(source) if source.config is None else _with_data(source.config, source)
    model = load_stored(source.checkpoint)
    model.config = change(model.config)
    operating_point = options["operating_point"]
    predictor = Predictor(model, device=device, amp=amp, operating_point=operating_point, source=str(source.checkpoint))
    if predictor.precision and launch.is_first:
        print(predictor.precision)
    work: Work
    if source.split is None:
        folder = _folder(predictor, source)
        work, store = folder, folder.store
    else:
        subset = SplitWork(predictor, source.split, source.annotations, source.fps)
        work, store = subset, subset.dataset.store
    options = {
        "eventide": __version__,
        "features": describe_features(store),
        "split": source.split,
        **options,
        "precision": predictor.precision,
        "labels": list(predictor.inference.labels),
    }
    return work, result_settings(model, predictor.config, options)


def _ended(outcome: Outcome, launch: Launch, shown: Shown, seconds: float, written: Sequence[Path | None]) -> int:
    """Say how it went; the exit code."""
    if outcome.error is not None:
        return EXIT_USAGE if isinstance(outcome.error, UsageError) else EXIT_FAILED
    if not launch.is_first:
        return 0
    if outcome.incomplete:
        raise EventideError(
            f"{outcome.incomplete} of {outcome.recordings} recordings are not finished: another process has failed or "
            "was ended; the same command goes on with them"
        )
    before = outcome.recordings - outcome.predicted
    print(
        f"{outcome.detections} detections in {outcome.recordings} recordings, {seconds:.1f} s "
        f"({outcome.predicted / seconds:.2f} recordings/s{f'; {before} were finished before' if before else ''})"
    )
    for path in written:
        if path is not None:
            print(f"wrote {path}")
    return 0


def _interrupted(launch: Launch, shown: Shown) -> int:
    """Say so once, whatever more comes: a launcher passes Ctrl-C on to processes that have had it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if launch.is_first:
        print(f"error: interrupted{shown.rest()}", file=sys.stderr)
    return EXIT_INTERRUPTED


def _check_use(
    features: list[str] | None,
    config: Path | None,
    split: str | None,
    fps: float | None,
    batch_size: int | None,
) -> None:
    """Exactly one source, sensible numbers."""
    if bool(features) == (config is not None):
        raise UsageError("give either --features DIR or --config FILE --split NAME" + (", not both" if config else ""))
    if (config is None) != (split is None):
        raise UsageError("--config and --split belong together: --config FILE --split NAME")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"--fps {fps}: give a number above 0")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: give 1 or more")


def _check_files(output: Path, csv: Path | None, force: bool) -> None:
    """Files that overwrite neither one another nor, unless forced, others."""
    if csv is not None and csv.absolute() == output.absolute():
        raise UsageError(f"--csv {csv}: the same file as --output; give the table a name of its own")
    for path in (output, csv):
        if path is not None and path.exists() and not force and not _is_of_merge(output, path):
            raise UsageError(f"{path} exists already; give another name, or --force to overwrite it")


def _is_of_merge(output: Path, path: Path) -> bool:
    """Whether an earlier run wrote `path` and was killed before it had removed its finished parts."""
    from eventide.engine.predict_parts import PartFolder

    return PartFolder(output).is_of_merge(path)


def _with_data(config: Path, source: Source) -> Callable[[Config], Config]:
    """How the configuration stored in a checkpoint takes over data and `test_cfg` of the file `config`."""
    from eventide.config_loading import load_config
    from eventide.engine.predict_files import with_data_of

    return with_data_of(load_config(config, source.overrides), config, source.checkpoint)


def _with_keys(source: Source) -> Callable[[Config], Config]:
    """How the configuration stored in a checkpoint gets `--set` on top, checked like any other."""
    from eventide.config_loading import override_config

    return lambda stored: override_config(stored, source.overrides, f"configuration in {source.checkpoint}")


def _folder(predictor: Predictor, source: Source) -> FolderWork:
    """Every feature file in the folders."""
    from eventide.data.annotations import load_annotations
    from eventide.engine.predict_files import FolderWork

    known = {}
    if source.annotations is not None:
        known = load_annotations(source.annotations, labels=predictor.labels, require=False).recordings
    return FolderWork(predictor, source.features, known, source.fps)


def _refuse(overrides: Sequence[str], sections: Sequence[str]) -> None:
    """Raise UsageError where `--set` names a section that a trained model is made by."""
    fixed = [text for text in overrides if text.partition(".")[0] in sections]
    if fixed:
        raise UsageError(f"--set {fixed[0]}: the checkpoint decides that; dataset.* and test_cfg.* may be set here")
