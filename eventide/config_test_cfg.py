"""The section `test_cfg` of the schema: from raw outputs to detections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eventide.config_section import NotNegative, Pair, Positive, Section, Share


class ChunkConfig(Section):
    """Windows over a recording that is too long for one pass."""

    length: int = Field(..., ge=1, description="Length of a window (vectors).")
    overlap: int = Field(0, ge=0, description="Vectors that neighbouring windows share; less than length.")


class TestConfig(Section):
    __test__ = False  # not a test, whatever pytest makes of the name

    pre_nms_thresh: float = Field(0.001, ge=0, lt=1, description="Candidates scoring this or less are dropped at once.")
    pre_nms_topk: int = Field(2000, ge=1, description="Candidates kept per pyramid level before suppression.")
    iou_threshold: float = Field(
        0.1, ge=0, le=1, description="Overlap (tIoU) from which hard suppression removes the weaker; unused by soft."
    )
    min_score: float = Field(
        0.001,
        ge=0,
        lt=1,
        description="Detections scoring less are dropped; soft keeps the best of each class, as published.",
    )
    max_seg_num: int = Field(200, ge=1, description="Detections kept per recording, the best.")
    nms_method: Literal["soft", "hard", "none"] = Field(
        "soft", description="Suppression of overlaps: lower their score, remove them, or nothing."
    )
    nms_sigma: float = Field(0.5, gt=0, description="Soft suppression multiplies scores by exp(-tIoU^2 / nms_sigma).")
    duration_thresh: float = Field(0.05, ge=0, description="Segments this short or shorter are dropped (vectors).")
    multiclass_nms: bool = Field(True, description="Suppress within each class; false: across all classes.")
    voting_thresh: float = Field(
        0.7,
        ge=0,
        le=1,
        description="tIoU from which neighbours are averaged into a detection (only across classes); 0: off.",
    )
    class_voting_thresh: float | None = Field(
        None,
        ge=0,
        le=1,
        description="With multiclass_nms: tIoU from which the candidates of its class move the boundaries of a "
        "detection, weighted by score, nearness and, with TBTFormer, certainty; 0: off. Default: 0.5 with TBTFormer, "
        "else 0.",
    )
    ext_score_file: str | None = Field(
        None, description="Class scores per recording (.json or .npz) to fuse with class-free proposals; null: none."
    )
    ext_score_topk: int = Field(2, ge=1, description="Classes taken from the external scores, the best.")
    chunk: ChunkConfig | None = Field(None, description="Overlapping windows for long recordings; null: one pass.")
    batch_size: int = Field(1, ge=1, description="Recordings per forward pass; changes speed and memory, no result.")
    use_diou_nms: bool = Field(
        False, description="Take the distance of centres off the overlap (DIoU): neighbours are suppressed less."
    )
    score_temperature: float | None = Field(
        None,
        gt=0,
        description="Divides class logits before the sigmoid; `eventide calibrate` finds the value at which scores can "
        "be read as probabilities. null: 1.",
    )
    class_sigma: dict[str, Positive] | None = Field(
        None, description="nms_sigma per label (soft only); labels left out use nms_sigma."
    )
    class_threshold: dict[str, Share] | None = Field(
        None,
        description="Lowest score per label at the operating point, the only place where it acts; labels left out use "
        "min_score. `eventide calibrate` finds the thresholds of the best F1.",
    )
    min_gap: NotNegative | dict[str, NotNegative] | None = Field(
        None,
        description="Least seconds from the end of an event to the start of the next of its class, one or per label; "
        "nearer to a better one is dropped. 0: events of a class do not overlap. null: no rule.",
    )
    max_overlap: Share | dict[str, Share] | None = Field(
        None,
        description="Largest tIoU of two events of a class, one or per label; more with a better one is dropped. "
        "null: no rule.",
    )
    duration_limits: Pair | dict[str, Pair] | None = Field(
        None, description="Shortest and longest event in seconds, one pair or per label; others are dropped."
    )
    quantiles: list[float] | None = Field(
        None, description="TBTFormer: quantiles of each boundary to report, rising, e.g. [0.1, 0.9]."
    )
    std_scale: float | None = Field(
        None,
        gt=0,
        description="TBTFormer: factor on the standard deviation of boundaries and on the distance of quantiles from "
        "the boundary; `eventide calibrate` finds it. null: 1.",
    )
