"""A read that never ends, as of a network disk that does not answer: a training that is asked to stop leaves it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventide.data.dataset import EventDataset
from eventide.engine import fit
from eventide.engine.checkpoint import list_checkpoints
from tests.engine.making import run_training, tiny_config
from tests.engine.test_fit import assert_same_run

# Of the training, step 4: the second of the second epoch; of the evaluation after the first epoch, step 3.
PLACES = {"training": (4, 7), "evaluation": (3, 0)}  # the steps that are done, the sample that never comes


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("number", "ending", "workers"),
    [(signal.SIGTERM, SystemExit, 0), (signal.SIGTERM, SystemExit, 1), (signal.SIGINT, KeyboardInterrupt, 0)],
)
def test_a_training_asked_to_stop_waits_no_longer(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    number: signal.Signals,
    ending: type[BaseException],
    workers: int,
) -> None:
    original, sample = fit.training_steps, EventDataset.sample
    is_waited_for, reads, main = multiprocessing.Event(), count(), os.getpid()
    before = set(multiprocessing.active_children())
    done, missing = PLACES[place]

    def steps(*words: Any, **options: Any) -> Any:
        with closing(original(*words, **options)) as batches:
            for step in count():
                if step == done:
                    is_waited_for.set()
                yield next(batches)

    def stuck(self: EventDataset, index: int, epoch: int) -> Any:
        if self.training == (place == "training") and next(reads) == missing:
            if self.training:
                is_waited_for.wait()
            os.kill(main, number)
            time.sleep(1000)
        return sample(self, index, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "training_steps", steps)
        patch.setattr(EventDataset, "sample", stuck)
        with pytest.raises(ending) as caught:
            run_training(tmp_path, tiny_config(tiny_data, loader={"num_workers": workers}), "stuck", eval_freq=1)
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 0
    assert set(multiprocessing.active_children()) == before
    run = tmp_path / "runs" / "tiny_stuck"
    assert list_checkpoints(run / "checkpoints")[0].name == f"step_{done:08d}.pt"
    assert f"step_{done:08d}.pt; go on with --resume auto" in (run / "train.log").read_text()
    resumed = run_training(tmp_path, tiny_config(tiny_data), "stuck", resume="auto", eval_freq=1)
    whole = run_training(tmp_path, tiny_config(tiny_data), "whole", eval_freq=1)
    assert_same_run(whole.folder.path, resumed.folder.path)
