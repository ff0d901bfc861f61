"""`eventide make-toy`: a tiny generated data set for any configuration, to try it before downloading anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eventide.cli.progress import progress_bar
from eventide.types import UsageError

if TYPE_CHECKING:
    from eventide.config import Config

TRIAL_EPOCHS = 3  # of the training command that is shown


def make_toy(
    config: Annotated[Path, Parameter(help="Configuration file; its own data need not be there.")],
    folder: Annotated[Path, Parameter(help="Folder for the data set and its config.yaml; made if missing.")],
    /,
    *,
    recordings: Annotated[int | None, Parameter(help="Recordings; a third is to evaluate on. Default: 9.")] = None,
    seed: Annotated[int, Parameter(help="Seed of the generator: one seed, one data set.")] = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key, also in the config.yaml.")] = None,
    force: Annotated[bool, Parameter(help="Replace files in the way that make-toy has not made.")] = False,
) -> None:
    """Write a tiny generated data set for a configuration, to try it before downloading anything.

    The data set has the layout that the configuration asks for: feature folders and formats, channels, strides, frame
    rates, subsets, classes, external scores. FOLDER/config.yaml is the configuration with the paths of this data set,
    and ready for every other command; runs go to FOLDER/runs.
    """
    from eventide.config_loading import load_config
    from eventide.data.toy import plan_toy
    from eventide.data.toy_files import ToyLayout, write_toy

    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more")
    loaded = load_config(config, set_ or ())
    plan, layout = plan_toy(loaded, recordings, seed), ToyLayout.of(loaded)
    with progress_bar("writing features") as on_progress:
        made = write_toy(plan, layout, folder, config, nested(set_ or ()), force=force, progress=on_progress)
    size = sum((folder / name).stat().st_size for name in layout.files(plan))
    training = sum(subset.lower() in {name.lower() for name in loaded.train_split} for subset in plan.subsets)
    print(
        f"Wrote {len(made)} recordings ({training} to train on), {sum(len(item.label_ids) for item in made)} events of "
        f"{plan.num_labels} class(es), {sum(layout.channels)} channels, {size / 1e6:.1f} MB, to {folder}. Now try:\n"
    )
    for command in commands(loaded, folder):
        print(f"  {command}")


def nested(overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Overrides "a.b=c", already found to be sound, as nested sections."""
    from eventide.config_yaml import Document, parse_value

    document = Document()
    for override in overrides:
        name, _, written = override.partition("=")
        value: Any = parse_value(written)
        for part in reversed(name.strip().split(".")):
            value = {part: value}
        document.merge(Document(value))
    return document.values


def commands(config: Config, folder: Path) -> list[str]:
    """What to type next, ready for a shell."""
    from eventide.data.toy_files import ANNOTATIONS, CONFIG, RUNS

    used, results, model = (
        folder / CONFIG,
        folder / RUNS / "results.json",
        folder / RUNS / "config_try/best.safetensors",
    )
    split, opt = config.val_split[0], config.opt
    short: list[str] = []
    if opt.schedule_type == "cosine" and opt.epochs > TRIAL_EPOCHS:
        short = ["--set", f"opt.epochs={TRIAL_EPOCHS}", *(["opt.warmup_epochs=1"] if opt.warmup else [])]
    points = config.dataset.events == "points"
    thresholds = [f"{value:g}" for value in (config.tolerances if points else config.tiou_thresholds)]
    lines: list[list[str | Path]] = [
        ["eventide", "check", used],
        ["python", "train.py", used, "--output", "try", *short],
        ["eventide", "predict", "--checkpoint", model, "--config", used, "--split", split, "--output", results],
        ["eventide", "eval", "--predictions", results, "--annotations", folder / ANNOTATIONS, "--split", split],
    ]
    lines[-1] += ["--tolerance" if points else "--tiou", *thresholds]
    return [shlex.join(map(str, line)) for line in lines]
