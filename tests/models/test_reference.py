"""Every number of the published implementation, for every reference case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eventide.layers import conv
from eventide.ops.assign import assign_targets
from eventide.ops.nms import batched_nms
from eventide.ops.points import pyramid_points
from eventide.types import PyramidOutput

from .reference_case import COPIED, FOLDER, SHARED, ReferenceCase


@pytest.fixture(params=COPIED + SHARED)
def case(request: pytest.FixtureRequest) -> ReferenceCase:
    if request.param in COPIED:
        return ReferenceCase.read(FOLDER / request.param)
    shared: Path = request.getfixturevalue("shared_dir")
    return ReferenceCase.read(shared / "reference" / request.param)


@pytest.fixture(params=["direct convolution", "minimal filtering"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The cases are too narrow for minimal filtering to be chosen; here it is also forced."""
    if request.param == "minimal filtering":
        monkeypatch.setattr(conv, "LEAST_CHANNELS", 1)
        monkeypatch.setattr(conv, "LEAST_ROWS", 1)
    return request.param


def test_raw_outputs(case: ReferenceCase, kernel: str) -> None:
    detector = case.build().detector
    for index in case.indices("test"):
        features, mask = case.batch("test", [index])
        with torch.no_grad():
            output = detector(features, mask)
        for level, (logits, offsets, valid) in enumerate(zip(output.logits, output.offsets, output.masks, strict=True)):
            stored = f"test/{index}/level{level}"
            expected = case.numbers[f"{stored}/mask"]
            assert expected.sum() == valid.sum() == valid.numel()
            for name, ours in (("logits", logits), ("offsets", offsets)):
                theirs = case.numbers[f"{stored}/{name}"].T[expected]
                np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=1e-4, atol=1e-4, err_msg=f"{stored} {name}")


def test_targets(case: ReferenceCase) -> None:
    criterion = case.build().criterion
    length = case.config.dataset.max_seq_len
    assert length is not None
    lengths = [length // stride for stride in criterion.strides]
    points = pyramid_points(lengths, criterion.strides, criterion.regression_range)
    classes, distances = assign_targets(points, *case.events(), criterion.num_classes, criterion.center_radius)
    for row, index in enumerate(case.indices("train")):
        np.testing.assert_array_equal(classes[row].numpy(), case.numbers[f"train/{index}/cls_targets"])
        positive = (classes[row].sum(-1) > 0).numpy()
        expected = case.numbers[f"train/{index}/reg_targets"][positive]
        np.testing.assert_allclose(distances[row].numpy()[positive], expected, rtol=1e-6, atol=1e-6)


def test_losses_and_gradients(case: ReferenceCase, kernel: str) -> None:
    architecture = case.build()
    criterion = architecture.criterion.train()
    criterion.loss_normalizer.fill_(float(case.numbers["train/loss_normalizer_before"]))
    losses = criterion(architecture.detector(*case.batch("train", case.indices("train"))), *case.events())
    for name in ("cls_loss", "reg_loss", "final_loss"):
        assert losses[name].item() == pytest.approx(float(case.numbers[f"train/losses/{name}"]), rel=1e-5), name
    assert criterion.loss_normalizer.item() == pytest.approx(
        float(case.numbers["train/loss_normalizer_after"]), rel=1e-6
    )
    losses["final_loss"].backward()
    parameters = dict(architecture.detector.named_parameters())
    expected = {k.removeprefix("train/grad_norm/"): float(v) for k, v in case.numbers.items() if "grad_norm/" in k}
    expected = {name.removeprefix("module."): value for name, value in expected.items()}
    assert parameters.keys() == expected.keys()
    for name, theirs in expected.items():
        gradient = parameters[name].grad
        ours = 0.0 if gradient is None else gradient.norm().item()
        assert abs(ours - theirs) <= 1e-3 * theirs + 1e-7, f"{name}: {ours} and not {theirs}"


def test_decoding_of_stored_outputs(case: ReferenceCase) -> None:
    decoder = case.build().decoder
    for index in case.indices("test"):
        candidates = decoder(_stored_output(case, index))[0]
        stored = {name: case.numbers[f"test/{index}/before_nms/{name}"] for name in ("segments", "scores", "labels")}
        _assert_same_set(candidates.segments, candidates.scores, candidates.label_ids, **stored)


def test_detections_from_stored_candidates(case: ReferenceCase) -> None:
    test, data = case.config.test_cfg, case.config.dataset
    for index in case.indices("test"):
        stored = {name: case.numbers[f"test/{index}/before_nms/{name}"] for name in ("segments", "scores", "labels")}
        segments, scores, label_ids = batched_nms(
            stored["segments"],
            stored["scores"],
            stored["labels"],
            iou_threshold=test.iou_threshold,
            min_score=test.min_score,
            max_seg_num=test.max_seg_num,
            method=test.nms_method,
            multiclass=test.multiclass_nms,
            sigma=test.nms_sigma,
            voting_thresh=test.voting_thresh,
        )
        seconds = (segments * data.feat_stride + 0.5 * data.num_frames) / float(case.numbers[f"test/{index}/fps"])
        seconds = seconds.clip(0, float(case.numbers[f"test/{index}/duration"]))
        expected = {name: case.numbers[f"test/{index}/detections/{name}"] for name in ("segments", "scores", "labels")}
        if (
            case.config.dataset.force_upsampling
        ):  # the stored seconds depend on the file's original length, unknown here
            seconds, expected["segments"] = np.zeros_like(seconds), np.zeros_like(expected["segments"])
        _assert_same_set(seconds, scores, label_ids, **expected)


def _stored_output(case: ReferenceCase, index: int) -> PyramidOutput:
    levels = range(len([name for name in case.numbers if name.startswith(f"test/{index}/level") and "mask" in name]))

    def read(level: int, name: str) -> torch.Tensor:
        return torch.from_numpy(case.numbers[f"test/{index}/level{level}/{name}"].T.copy()).unsqueeze(0)

    return PyramidOutput(*([read(level, name) for level in levels] for name in ("logits", "offsets", "mask")))


def _assert_same_set(
    our_segments: np.ndarray,
    our_scores: np.ndarray,
    our_labels: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
) -> None:
    """One to one whatever the order: stored scores contain exact ties."""
    assert len(our_scores) == len(scores)
    ours = np.column_stack((our_labels, our_scores, our_segments))
    theirs = np.column_stack((labels, scores, segments))
    free = np.ones(len(theirs), bool)
    for row in ours:
        distance = np.abs(theirs - row).max(axis=1)
        distance[~free] = np.inf
        best = int(distance.argmin())
        assert distance[best] <= 1e-3, f"no counterpart for {row}"
        free[best] = False
