"""Published checkpoints: the imported model finds what the published code found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import eventide
from eventide.config_loading import load_config
from eventide.interop.published import class_names, import_checkpoint, read_tensors
from eventide.types import Detections, EventideError
from tests.errors.error_case import run_cli

COPIED = Path(__file__).resolve().parent.parent / "reference"
SMALL = ("anet_like", "conv_backbone", "fpn_full_relpe")
LARGE = ("ego4d_like", "epic_like", "thumos_like", "two_streams")
ATOL = 1e-3


def reference_case(name: str, request: pytest.FixtureRequest) -> Path:
    """Folder of a case: the copy in the repository, else the one beside it."""
    if (COPIED / name / "case.npz").exists():
        return COPIED / name
    return request.getfixturevalue("shared_dir") / "reference" / name


def matched(found: Detections, segments: np.ndarray, scores: np.ndarray, label_ids: np.ndarray) -> int:
    """How many published detections have a partner of their own, whatever the order (stored scores have exact ties)."""
    free = np.ones(len(found), bool)
    for segment, score, label_id in zip(segments, scores, label_ids, strict=True):
        near = free & (found.label_ids == label_id) & (np.abs(found.scores - score) <= ATOL)
        near &= np.abs(found.segments - segment).max(axis=1) <= ATOL
        if near.any():
            free[np.argmax(near)] = False
    return int((~free).sum())


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_detections_are_the_published_ones(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = reference_case(name, request)
    out = tmp_path / "models" / "model.safetensors"
    run_cli(["import-actionformer", folder / "config.yaml", folder / "epoch_001.pth.tar", out], tmp_path)
    predictor = eventide.load(out, device="cpu")
    total = partners = 0
    with np.load(folder / "case.npz") as case:
        features, rates, durations, index = [], [], [], 0
        while f"test/{index}/feats" in case:
            features.append(case[f"test/{index}/feats"].T)
            rates.append(float(case[f"test/{index}/fps"]))
            durations.append(float(case[f"test/{index}/duration"]))
            index += 1
        for index, found in enumerate(predictor.predict(features, fps=rates, duration=durations)):
            published = [case[f"test/{index}/detections/{key}"] for key in ("segments", "scores", "labels")]
            total += len(published[1])
            partners += matched(found, *published)
            assert len(found) == len(published[1])
    assert total > 30
    assert partners >= 0.995 * total


@pytest.mark.parametrize("name", ["two_streams"])
def test_averaged_weights_are_taken_unless_raw_is_asked_for(name: str, request: pytest.FixtureRequest) -> None:
    folder = reference_case(name, request)
    path = folder / "epoch_001.pth.tar"
    config = load_config(folder / "config.yaml")
    content = torch.load(path, map_location="cpu", weights_only=True)
    for raw, key in ((False, "state_dict_ema"), (True, "state_dict")):
        tensors = import_checkpoint(config, path, raw=raw).tensors
        assert all(torch.equal(tensors[name.removeprefix("module.")], value) for name, value in content[key].items())
    differing = [
        name for name, value in content["state_dict"].items() if not content["state_dict_ema"][name].equal(value)
    ]
    assert differing


def test_the_configuration_of_another_model_is_refused_with_keys(request: pytest.FixtureRequest) -> None:
    one, other = reference_case("conv_backbone", request), reference_case("fpn_full_relpe", request)
    with pytest.raises(EventideError, match="published ActionFormer code, which do not fit LocPointTransformer with"):
        import_checkpoint(load_config(one / "config.yaml"), other / "epoch_001.pth.tar")


@pytest.mark.parametrize(
    ("label", "labels", "count", "expected"),
    [
        ("none known", None, 3, ["0", "1", "2"]),
        ("all known", ["a", "b"], 2, ["a", "b"]),
        ("some missing", ["a"], 3, ["a", "1", "2"]),
        ("proposals", ["a", "b", "c"], 1, ["proposal"]),
    ],
)
def test_class_names(label: str, labels: list[str] | None, count: int, expected: list[str]) -> None:
    assert class_names(labels, count) == expected


def test_too_many_labels_are_refused() -> None:
    with pytest.raises(EventideError, match="3 classes and the model has 2"):
        class_names(["a", "b", "c"], 2)


def test_names_come_from_the_annotations(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = reference_case("fpn_full_relpe", request)
    events = [{"segment": [0, 1], "label": name, "label_id": index} for index, name in enumerate(("run", "hop", "sit"))]
    (tmp_path / "a.json").write_text(json.dumps({"database": {"v": {"subset": "t", "annotations": events}}}))
    words = ["import-actionformer", folder / "config.yaml", folder / "epoch_001.pth.tar", "m.safetensors"]
    said = run_cli([*words, "--annotations", "a.json"], tmp_path)
    assert "wrote m.safetensors" in said
    assert eventide.load(tmp_path / "m.safetensors").labels == ["run", "hop", "sit", "3"]


def test_prefix_and_tables_are_taken_off(tmp_path: Path) -> None:
    names = ["module.a.weight", "b.weight", "module.backbone.pos_embd"]
    torch.save({"state_dict_ema": {name: torch.zeros(1, dtype=torch.float16) for name in names}}, tmp_path / "e.pt")
    tensors = read_tensors(tmp_path / "e.pt", "state_dict_ema")
    assert list(tensors) == ["a.weight", "b.weight"]
    assert tensors["a.weight"].dtype == torch.float32


def test_averaged_weights_missing_gives_a_hint(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "state_dict": {}}, tmp_path / "e.pt")
    with pytest.raises(EventideError, match=r"no state_dict_ema.*--raw takes the weights of the last step"):
        read_tensors(tmp_path / "e.pt", "state_dict_ema")


def test_a_checkpoint_cut_off_is_refused(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = reference_case("conv_backbone", request) / "epoch_001.pth.tar"
    shutil.copy(source, tmp_path / "e.pth.tar")
    (tmp_path / "e.pth.tar").write_bytes(source.read_bytes()[:5000])
    with pytest.raises(EventideError, match="damaged or cut off"):
        read_tensors(tmp_path / "e.pth.tar", "state_dict_ema")
