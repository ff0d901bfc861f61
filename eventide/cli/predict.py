"""`eventide predict`: find events in feature files with a trained model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from eventide.cli.progress import progress_bar
from eventide.types import UsageError

if TYPE_CHECKING:
    from eventide.config import Config
    from eventide.engine.predict import Predictor
    from eventide.types import Detections


FIXED = ("model", "opt", "train_cfg")  # sections that a trained model is made by


def predict(
    *,
    checkpoint: Annotated[Path, Parameter(help="Model file, training checkpoint or run folder.")],
    output: Annotated[Path, Parameter(help="Results file to write (JSON).")],
    features: Annotated[
        list[Path] | None, Parameter(help="Folder of feature files; several are joined along channels.")
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
    force: Annotated[bool, Parameter(help="Overwrite files that exist.")] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: test_cfg.max_seg_num=50.")] = None,
) -> None:
    """Find events with a trained model.

    Takes either --features DIR or --config FILE --split NAME. The rate of a recording is that of the annotations, else
    --fps, else the model's; its duration is that of the annotations.
    """
    _check_use(features, config, split, fps, batch_size)
    _check_files(features or [], output, csv, force)
    from eventide.engine.memory import keep_freed_memory
    from eventide.engine.predict_files import predict_split
    from eventide.evaluation.results import write_results, write_results_csv

    keep_freed_memory()
    overrides = [*(set_ or ()), *([f"test_cfg.batch_size={batch_size}"] if batch_size is not None else ())]
    begin = time.perf_counter()
    with progress_bar("predicting") as on_progress:
        if config is not None and split is not None:
            predictor = _load(_with_data(config, overrides, checkpoint), checkpoint, device, amp, operating_point)
            found = predict_split(predictor, split, annotations, fps, on_progress)
        else:
            predictor = _load(_with_keys(overrides, checkpoint), checkpoint, device, amp, operating_point)
            found = _folder(predictor, features or [], annotations, fps, on_progress)
    if min_score is not None:
        found = {name: detections.take(detections.scores >= min_score) for name, detections in found.items()}
    write_results(output, found)
    if csv is not None:
        write_results_csv(csv, found)
    seconds = time.perf_counter() - begin
    print(
        f"{sum(map(len, found.values()))} detections in {len(found)} recordings, {seconds:.1f} s "
        f"({len(found) / seconds:.2f} recordings/s)"
    )
    for path in (output, csv):
        if path is not None:
            print(f"wrote {path}")


def _check_use(
    features: list[Path] | None,
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


def _check_files(features: Sequence[Path], output: Path, csv: Path | None, force: bool) -> None:
    """Folders that are there, and files that overwrite neither one another nor, unless forced, others."""
    if csv is not None and csv.absolute() == output.absolute():
        raise UsageError(f"--csv {csv}: the same file as --output; give the table a name of its own")
    for folder in features or []:
        if not folder.exists():
            raise UsageError(f"--features {folder}: there is no such folder")
    for path in (output, csv):
        if path is not None and path.exists() and not force:
            raise UsageError(f"{path} exists already; give another name, or --force to overwrite it")


def _with_data(config: Path, overrides: Sequence[str], checkpoint: Path) -> Callable[[Config], Config]:
    """How the configuration stored in `checkpoint` takes over data and `test_cfg` of the file `config`."""
    from eventide.config_loading import load_config
    from eventide.engine.predict_files import with_data_of

    _refuse(overrides, ("opt", "train_cfg"))
    return with_data_of(load_config(config, overrides), config, checkpoint)


def _with_keys(overrides: Sequence[str], checkpoint: Path) -> Callable[[Config], Config]:
    """How the configuration stored in `checkpoint` gets `--set` on top, checked like any other."""
    from eventide.config_loading import override_config

    _refuse(overrides, FIXED)
    return lambda stored: override_config(stored, overrides, f"configuration in {checkpoint}")


def _load(
    change: Callable[[Config], Config], checkpoint: Path, device: str, amp: bool, operating_point: bool
) -> Predictor:
    """The model, which says what it computes in where that was asked for."""
    from eventide.engine.predict import Predictor

    predictor = Predictor.load(checkpoint, device=device, amp=amp, operating_point=operating_point, change=change)
    if predictor.precision:
        print(predictor.precision)
    return predictor


def _folder(
    predictor: Predictor,
    features: Sequence[Path],
    annotations: Path | None,
    fps: float | None,
    on_progress: Callable[[int, int], None],
) -> dict[str, Detections]:
    """Detections of every feature file in the folders."""
    from eventide.data.annotations import load_annotations
    from eventide.engine.predict_files import predict_folder

    known = {}
    if annotations is not None:
        known = load_annotations(annotations, labels=predictor.labels, require=False).recordings
    return predict_folder(predictor, features, known, fps, on_progress)


def _refuse(overrides: Sequence[str], sections: Sequence[str]) -> None:
    """Raise UsageError where `--set` names a section that a trained model is made by."""
    fixed = [text for text in overrides if text.partition(".")[0] in sections]
    if fixed:
        raise UsageError(f"--set {fixed[0]}: the checkpoint decides that; dataset.* and test_cfg.* may be set here")
