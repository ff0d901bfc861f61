"""Ways to get models and checkpoints wrong: damaged, of something else, of another model, with the wrong features."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import eventide
from eventide.engine.checkpoint import list_checkpoints
from eventide.engine.model_file import StoredModel, save_model
from eventide.models import build
from tests.engine.making import LABELS, run_training, tiny_config, write_config, write_data
from tests.errors.error_case import ErrorCase, run_cli


class Code:
    """An object that would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@cache
def finished_run() -> Path:
    """A folder with data and a finished tiny run in it, made once."""
    folder = Path(tempfile.mkdtemp(prefix="eventide-cases-"))
    write_data(folder)
    run_training(folder, tiny_config(folder, opt={"epochs": 1, "warmup_epochs": 0}), "run", print_freq=1000)
    return folder


def in_run(folder: Path) -> Path:
    """A copy of the finished run under `folder`: `runs/tiny_run`, `data`."""
    shutil.copytree(finished_run(), folder, dirs_exist_ok=True)
    return folder / "runs" / "tiny_run"


def model_file(folder: Path, **changes: dict[str, Any]) -> Path:
    """An untrained tiny model."""
    config = tiny_config(folder, **changes)
    path = folder / "model.safetensors"
    save_model(path, StoredModel(config, list(LABELS), None, dict(build(config).detector.state_dict())))
    return path


def resume(folder: Path, words: str = "auto", **changes: dict[str, Any]) -> None:
    """Resume the finished run with other settings."""
    opt = {"epochs": 1, "warmup_epochs": 0, **changes.pop("opt", {})}
    run_training(folder, tiny_config(folder, opt=opt, **changes), "run", resume=words, print_freq=1000)


def cut_model(folder: Path) -> object:
    path = model_file(folder)
    path.write_bytes(path.read_bytes()[:200])
    return eventide.load(path)


def other_tensors(folder: Path) -> object:
    save_file({"features": torch.zeros(3, 4)}, folder / "v1.safetensors")
    return eventide.load(folder / "v1.safetensors")


def newer_config(folder: Path) -> object:
    path = model_file(folder)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata, names = file.metadata(), list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    metadata["config"] = json.dumps({**json.loads(metadata["config"]), "flux": 1})
    save_file(tensors, path, metadata)
    return eventide.load(path)


def lost_tensor(folder: Path) -> object:
    config = tiny_config(folder)
    tensors = dict(build(config).detector.state_dict())
    tensors.pop(next(iter(tensors)))
    save_model(folder / "model.safetensors", StoredModel(config, list(LABELS), None, tensors))
    return eventide.load(folder / "model.safetensors")


def cut_checkpoint(folder: Path) -> object:
    path = list_checkpoints(in_run(folder) / "checkpoints")[0]
    path.write_bytes(path.read_bytes()[:1000])
    return eventide.load(path)


def text_file(folder: Path) -> object:
    (folder / "model.yaml").write_text("model: {}\n")
    return eventide.load(folder / "model.yaml")


def all_cut(folder: Path) -> None:
    for path in list_checkpoints(in_run(folder) / "checkpoints"):
        path.write_bytes(path.read_bytes()[:1000])
    resume(folder)


def saved(content: Callable[[], Any]) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        torch.save(content(), folder / "model.pt")
        return eventide.load(folder / "model.pt")

    return run


def other_backbone(folder: Path) -> None:
    config = tiny_config(folder, model={"backbone_type": "conv"})
    words = ["predict", "--checkpoint", model_file(folder), "--config", write_config(folder, config)]
    run_cli([*words, "--split", "validation", "--output", "r.json"], folder)


def other_window(folder: Path) -> None:
    backbone = {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 7}
    config = tiny_config(folder, model={"backbone": backbone, "head_num_layers": 2})
    words = ["predict", "--checkpoint", model_file(folder), "--config", write_config(folder, config)]
    run_cli([*words, "--split", "validation", "--output", "r.json"], folder)


def predict(features: Any, **options: Any) -> Callable[[Path], object]:
    return lambda folder: eventide.load(model_file(folder), device="cpu").predict(features, **{"fps": 10.0, **options})


def with_nan() -> np.ndarray:
    features = np.zeros((20, 4), np.float32)
    features[7, 2] = np.nan
    return features


def imported(content: Callable[[], Any]) -> Callable[[Path], object]:
    """Import a checkpoint with this content, by a configuration in the published form."""

    def run(folder: Path) -> object:
        torch.save(content(), folder / "epoch_001.pth.tar")
        published = (
            "dataset: {input_dim: 4, num_classes: 2}\nmodel: {embd_dim: 8, fpn_dim: 8, head_dim: 8, n_head: 2}\n"
        )
        (folder / "af.yaml").write_text(f"dataset_name: thumos\nmodel_name: LocPointTransformer\n{published}")
        return run_cli(["import-actionformer", "af.yaml", "epoch_001.pth.tar", "model.safetensors"], folder)

    return run


def case(label: str, how: str, run: Callable[[Path], object], message: str, exit_code: int = 1) -> ErrorCase:
    return ErrorCase(label, how, run, message, exit_code)


CASES: list[ErrorCase] = [
    case(
        "no model",
        "loaded a model that is not there",
        lambda folder: eventide.load(folder / "best.safetensors"),
        r"there is no model at DIR/best\.safetensors",
    ),
    case("empty run", "loaded a folder without a run", eventide.load, r"neither best\.safetensors nor a checkpoint"),
    case("model cut off", "loaded a model file that a copy cut off", cut_model, r"damaged or cut off"),
    case("features as model", "loaded safetensors of something else", other_tensors, r"is no Eventide model"),
    case("newer model", "loaded a model whose configuration has an unknown key", newer_config, r"flux: Extra inputs"),
    case("tensor lost", "loaded a model file that lacks a tensor", lost_tensor, r"do not fit.*is missing"),
    case("checkpoint cut off", "loaded a checkpoint that a copy cut off", cut_checkpoint, r"damaged or cut off"),
    case("text as model", "loaded a text file", text_file, r"it is none, or its beginning is damaged"),
    case("code in checkpoint", "loaded a checkpoint that holds code", saved(Code), r"could run code; it is not loaded"),
    case(
        "plain tensors", "loaded a file of tensors", saved(lambda: {"a": torch.ones(2)}), r"is no Eventide checkpoint"
    ),
    case(
        "published checkpoint",
        "loaded a checkpoint of the published code",
        saved(lambda: {"epoch": 1, "state_dict": {}, "state_dict_ema": {}}),
        r"goes through `eventide import-actionformer`",
    ),
    case("other backbone", "predicted with a configuration of another backbone", other_backbone, r"interchangeable"),
    case("other window", "predicted with a configuration of another window", other_window, r"mha_win_size was"),
    case(
        "resume, other rate",
        "resumed with another learning rate",
        lambda folder: in_run(folder) and resume(folder, opt={"learning_rate": 0.5}),
        r"other settings: opt\.learning_rate was 0\.01 and is now 0\.5",
    ),
    case(
        "resume, other backbone",
        "resumed with another backbone",
        lambda folder: in_run(folder) and resume(folder, model={"backbone_type": "conv"}),
        r"holds weights of LocPointTransformer with backbone convTransformer.*backbone conv;",
    ),
    case("resume, all damaged", "resumed where every checkpoint is damaged", all_cut, r"none of the 1 checkpoints"),
    case(
        "resume, not there",
        "resumed from a checkpoint that is not there",
        lambda folder: in_run(folder) and resume(folder, str(folder / "step_1.pt")),
        r"--resume DIR/step_1\.pt: there is no such file",
        2,
    ),
    case("one dimension", "predicted from a vector", predict(np.zeros(4)), r"shape \(4,\); expected two dimensions"),
    case("wrong channels", "predicted from features of another width", predict(np.zeros((9, 5))), r"takes \(T, 4\)"),
    case("transposed", "predicted from features (C, T)", predict(np.zeros((4, 9))), r"transpose it"),
    case("no vectors", "predicted from no vectors", predict(np.zeros((0, 4))), r"there are no feature vectors"),
    case("NaN in features", "predicted from features with NaN", predict(with_nan()), r"feature vector 7, channel 2"),
    case("words as features", "predicted from text", predict(np.array([["a"]])), r"an array \(T, C\) of numbers"),
    case("no rate", "predicted without a rate", predict(np.zeros((9, 4)), fps=None), r"rate is not known.*--fps"),
    case("negative rate", "predicted at -1 frames per second", predict(np.zeros((9, 4)), fps=-1), r"above 0", 2),
    case("import, code", "imported a checkpoint that holds code", imported(Code), r"could run code; it is not loaded"),
    case(
        "import, something else",
        "imported a checkpoint of something else",
        imported(lambda: {"weights": {}}),
        r"no state_dict_ema in it \(found: weights\)",
    ),
    case(
        "import, other model",
        "imported a checkpoint with the configuration of another model",
        imported(lambda: {"state_dict_ema": {"module.x": torch.zeros(1)}}),
        r"do not fit LocPointTransformer.*is missing.*and \d+ more; is this the configuration",
    ),
]
