"""`eventide make-demo-data`: the generated data set of the demo."""

from __future__ import annotations

from pathlib import Path

from eventide.types import UsageError


def make_demo_data(folder: Path, /, *, recordings: int = 60, seed: int = 7) -> None:
    """Write a small generated data set: feature sequences with known segments, the same for the same seed.

    Parameters
    ----------
    folder
        Where `features/` and `annotations.json` are written.
    recordings
        Number of recordings; a third of them is for validation.
    seed
        Seed of the generator.
    """
    from eventide.data.synthetic import CHANNELS, CLASSES, SyntheticSettings, make_dataset

    if recordings < 3:
        raise UsageError(f"--recordings is {recordings}; it takes 3 or more, so that both subsets have some")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; it takes 0 or more")
    path = make_dataset(folder, SyntheticSettings(recordings=recordings, seed=seed))
    labels = ", ".join(kind.label for kind in CLASSES)
    print(f"Wrote {recordings} recordings ({CHANNELS} channels; {labels}) to {path.parent}, annotations to {path}")
