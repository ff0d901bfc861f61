"""Batches of similar length in training: the run says what padding costs, and resumes to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.making import all_tensors, run_training, tiny_config

WAYS = [
    pytest.param({"batching": "bucketed"}, "bucketed", id="bucketed"),
    pytest.param({"batching": "bucketed", "num_lengths": 1}, "bucketed, 1 length(s)", id="one length"),
    pytest.param({"batching": "fixed", "num_workers": 1}, "fixed, 1 length(s)", id="fixed"),
]


@pytest.mark.parametrize(("loader", "name"), WAYS)
def test_a_run_says_what_padding_costs_and_resumes_to_the_bit(
    tiny_data: Path, tmp_path: Path, loader: dict[str, Any], name: str
) -> None:
    config = tiny_config(tiny_data, loader=loader)
    whole = run_training(tmp_path, config, "whole", checkpoint_steps=1, print_freq=1, eval_freq=0)
    share = whole.batch_plan.padding_share(0)
    assert f"padding: {share:.1%} of the vectors in epoch 1 (loader.batching: {name})" in whole.folder.log.read_text()
    lines = [json.loads(line) for line in whole.folder.metrics.read_text().splitlines()]
    logged = [line["padding_share"] for line in lines if line["kind"] == "train"]
    assert logged == [whole.batch_plan.padding_share(epoch) for epoch in range(4) for _ in range(3)]
    middle = whole.folder.checkpoints / "step_00000010.pt"  # one step into the last epoch
    resumed = run_training(tmp_path, config, "resumed", resume=str(middle), print_freq=1, eval_freq=0)
    tensors, again = (all_tensors(trainer.state.state_dict()) for trainer in (whole, resumed))
    assert tensors.keys() == again.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in tensors.items())
