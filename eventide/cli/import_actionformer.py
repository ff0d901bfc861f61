"""`eventide import-actionformer`: convert a checkpoint of the published ActionFormer code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eventide.types import UsageError


def import_actionformer(
    config: Annotated[Path, Parameter(help="The configuration it was trained with (ActionFormer's YAML).")],
    checkpoint: Annotated[Path, Parameter(help="The checkpoint, epoch_*.pth.tar.")],
    out: Annotated[Path, Parameter(help="Model file to write, ending in .safetensors.")],
    *,
    annotations: Annotated[Path | None, Parameter(help="Annotation file: gives the classes their names.")] = None,
    raw: Annotated[bool, Parameter(help="Take the weights of the last step, not the averaged ones.")] = False,
    force: Annotated[bool, Parameter(help="Overwrite OUT if it exists.")] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key of the configuration.")] = None,
) -> None:
    """Convert a published ActionFormer checkpoint to a model file that predicts the same numbers."""
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the model file must end in .safetensors")
    if out.exists() and not force:
        raise UsageError(f"{out} exists already; give another name, or --force to overwrite it")
    from eventide.config_loading import load_config
    from eventide.data.annotations import load_annotations
    from eventide.engine.model_file import save_model
    from eventide.interop.published import import_checkpoint

    loaded = load_config(config, set_ or ())
    labels = load_annotations(annotations, require=False).labels if annotations is not None else None
    model = import_checkpoint(loaded, checkpoint, labels=labels, raw=raw)
    save_model(out, model, {"imported_from": checkpoint.name, "weights": "raw" if raw else "averaged"})
    size = sum(tensor.numel() for tensor in model.tensors.values()) / 1e6
    print(f"wrote {out}: {loaded.model.backbone_type}, {size:.2f} M parameters, {len(model.labels)} classes")
