"""The typed schema of every configuration file: one class per section, every default and its reason in one place."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DatasetConfig(Section):
    json_file: str = Field("", description="Annotation file, ActivityNet-style JSON.")
    feat_folder: str | list[str] = Field("", description="Feature folder, or several that are joined along channels.")
    file_prefix: str = Field("", description="Text before the recording id in feature file names.")
    file_ext: str = Field(".npy", description="Ending of feature files: .npy, .npz, .h5, .pt or .safetensors.")
    num_classes: int = Field(1, ge=1, description="Number of event classes; 1 with many labels means proposals.")
    input_dim: int | list[int] = Field(2048, description="Channels of a feature vector; a list for separate streams.")
    feat_stride: float = Field(16, description="Source frames between two feature vectors.")
    num_frames: float = Field(16, description="Source frames that one feature vector covers.")
    default_fps: float | None = Field(None, gt=0, description="Frame rate for all recordings; null reads each one's.")
    downsample_rate: int = Field(1, ge=1, description="Keep every n-th feature vector.")
    max_seq_len: int | None = Field(None, ge=1, description="Longest training sequence; null takes backbone.max_len.")
    trunc_thresh: float = Field(0.5, gt=0, le=1, description="Share of an event that a truncation must keep.")
    crop_ratio: tuple[float, float] | None = Field(None, description="Random crop to this share of a recording.")
    force_upsampling: bool = Field(False, description="Resize every recording to max_seq_len (ActivityNet).")
    missing: Literal["error", "skip"] = Field("error", description="What to do when a feature file is missing.")


class LoaderConfig(Section):
    batch_size: int = Field(2, ge=1, description="Sequences per step.")
    num_workers: int = Field(0, ge=0, description="Loader processes; results do not depend on it.")
    drop_last: bool = Field(False, description="Leave out the last, smaller batch of an epoch (ActionFormer does).")


class BackboneConfig(Section):
    n_embd: int | list[int] = Field(512, description="Channels of the embedding; a list, one per input stream.")
    n_head: int = Field(4, ge=1, description="Attention heads.")
    n_kv_head: int | None = Field(None, description="v2: key and value heads; null is n_head.")
    n_hidden: int | None = Field(None, description="v2: width of the feed-forward; null is 4 n_embd.")
    arch: tuple[int, int, int] = Field((2, 2, 5), description="Embedding convolutions, stem blocks, pyramid blocks.")
    mha_win_size: int | list[int] = Field(-1, description="Attention window, one number or one per level; -1 is full.")
    max_len: int | None = Field(None, ge=1, description="Position table length; null takes dataset.max_seq_len.")
    scale_factor: int = Field(2, ge=2, description="Ratio of lengths of neighbouring pyramid levels.")
    embd_kernel_size: int = Field(3, ge=1, description="Kernel of the embedding convolutions (odd).")
    embd_with_ln: bool = Field(True, description="Layer norm after each embedding convolution.")
    use_abs_pe: bool = Field(False, description="Add sinusoid position embeddings.")
    use_rel_pe: bool = Field(False, description="v1: learned bias per window position in windowed attention.")
    use_rope: bool | None = Field(None, description="v2: rotary position embeddings; default true under v2.")
    use_flash_attn: bool | None = Field(None, description="v2: fused attention; default true under v2.")
    use_swiglu: bool | None = Field(None, description="v2: gated feed-forward; default true under v2.")
    use_rms_norm: bool | None = Field(None, description="v2: RMS norm; default true under v2.")
    padding: Literal["own", "published"] = Field(
        "own", description="Canvas of a sequence: its own length, or ActionFormer's padded length."
    )


class ModelConfig(Section):
    meta_arch: Literal["LocPointTransformer", "SnapFormer", "TBTFormer"] = Field(
        "LocPointTransformer", description="Architecture."
    )
    backbone_type: Literal["conv", "convTransformer", "convTransformerv2"] = Field(
        "convTransformer", description="Backbone."
    )
    backbone: BackboneConfig = Field(default_factory=BackboneConfig, description="Backbone settings.")
    fpn_type: Literal["identity", "fpn", "cs_fpn"] = Field("identity", description="Neck.")
    fpn_dim: int | None = Field(None, description="Channels of the neck; null is n_embd.")
    fpn_with_ln: bool = Field(True, description="Layer norm at the end of the neck.")
    fpn_start_level: int = Field(0, ge=0, description="First backbone level that the neck uses.")
    head_dim: int | None = Field(None, description="Channels of the heads; null is n_embd.")
    head_kernel_size: int = Field(3, ge=1, description="Kernel of the head convolutions (odd).")
    head_num_layers: int = Field(3, ge=1, description="Convolutions per head, the last one included.")
    head_with_ln: bool = Field(True, description="Layer norm in the heads.")
    regression_range: list[tuple[float, float]] | None = Field(
        None, description="Distances each level answers for; null: 0-4, 4-8, ... doubling, the last open."
    )
    reg_max: int | None = Field(None, ge=1, description="TBTFormer: bins per boundary distribution.")
    dfl_weight: float | None = Field(None, ge=0, description="TBTFormer: weight of the distribution focal loss.")


class TrainConfig(Section):
    center_sample: Literal["radius", "none"] = Field("radius", description="Positives near the centre, or everywhere.")
    center_sample_radius: float = Field(1.5, gt=0, description="Radius of centre sampling, in strides of the level.")
    loss_weight: float = Field(1.0, description="Weight of the regression loss; -1 balances by itself.")
    cls_prior_prob: float = Field(0.01, ge=0, lt=1, description="Initial class probability.")
    init_loss_norm: float = Field(100.0, gt=0, description="Initial value of the running number of positives.")
    loss_norm_momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the running number of positives.")
    clip_grad_l2norm: float = Field(1.0, description="Gradient clipping by total L2 norm; 0 or less: off.")
    head_empty_cls: list[int] = Field(default_factory=list, description="Classes without examples, never predicted.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in the transformer blocks.")
    droppath: float = Field(0.1, ge=0, lt=1, description="Stochastic depth, per sample.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the class targets.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Upper limit of the decay of the averaged weights.")
    ema_ramp: bool = Field(True, description="Let the decay grow with the step: min(ema_decay, (1 + n) / (10 + n)).")
    max_bad_steps: int = Field(10, ge=1, description="Non-finite steps in a row after which training stops.")
    checkpoint_minutes: float = Field(5.0, ge=0, description="Minutes between checkpoints within an epoch; 0: off.")
    keep_checkpoints: int = Field(3, ge=1, description="Training checkpoints that are kept.")
    accum_steps: int = Field(1, ge=1, description="Micro-batches per optimiser step.")
    compile: bool = Field(False, description="torch.compile the detector.")
    auto_microbatch: bool = Field(False, description="On out of memory, halve the micro-batch and go on.")
    cls_loss: Literal["focal", "quality_focal"] = Field("focal", description="Class loss.")
    reg_loss: Literal["diou", "giou", "eiou"] = Field("diou", description="Boundary loss.")


class ChunkConfig(Section):
    length: int = Field(..., ge=1, description="Feature vectors per window.")
    overlap: int = Field(0, ge=0, description="Feature vectors that neighbouring windows share.")


class TestConfig(Section):
    pre_nms_thresh: float = Field(0.001, ge=0, description="Scores at or below are dropped before NMS.")
    pre_nms_topk: int = Field(2000, ge=1, description="Candidates kept per level before NMS.")
    iou_threshold: float = Field(0.1, ge=0, le=1, description="Overlap at which hard NMS removes.")
    min_score: float = Field(0.001, ge=0, description="Scores below are dropped in NMS.")
    max_seg_num: int = Field(200, ge=1, description="Detections kept per recording.")
    nms_method: Literal["soft", "hard", "none"] = Field("soft", description="Non-maximum suppression.")
    nms_sigma: float = Field(0.5, gt=0, description="Width of soft NMS.")
    duration_thresh: float = Field(0.05, ge=0, description="Segments this short or shorter (grid steps) are dropped.")
    multiclass_nms: bool = Field(True, description="Suppress within each class; false: across classes.")
    voting_thresh: float = Field(0.7, ge=0, le=1, description="Overlap for segment voting (class-agnostic NMS); 0: off.")
    ext_score_file: str | None = Field(None, description="Class scores per recording (json or npz) to fuse.")
    ext_score_topk: int = Field(2, ge=1, description="Classes taken from the external scores.")
    chunk: ChunkConfig | None = Field(None, description="Windows for recordings too long for one pass; null: one pass.")
    batch_size: int = Field(1, ge=1, description="Recordings per forward pass in evaluation.")
    use_diou_nms: bool = Field(False, description="Suppress by DIoU instead of IoU.")
    score_temperature: float | None = Field(None, gt=0, description="Divides logits before the sigmoid.")
    class_sigma: dict[str, float] | None = Field(None, description="NMS width per class.")
    class_threshold: dict[str, float] | None = Field(None, description="Score threshold per class.")


class OptimConfig(Section):
    type: Literal["AdamW", "SGD"] = Field("AdamW", description="Optimiser.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay; not on biases, norms, scales and embeddings.")
    epochs: int = Field(30, ge=1, description="Epochs after warm-up.")
    warmup: bool = Field(True, description="Linear warm-up of the learning rate.")
    warmup_epochs: int = Field(5, ge=0, description="Epochs of warm-up, before `epochs`.")
    schedule_type: Literal["cosine", "multistep"] = Field("cosine", description="Decay after warm-up.")
    schedule_steps: list[int] = Field(default_factory=list, description="Epochs (after warm-up) of the drops.")
    schedule_gamma: float = Field(0.1, gt=0, description="Factor of each drop.")


class Config(Section):
    """A whole experiment."""

    dataset_name: str = Field("custom", description="Name of the data set, for messages and logs.")
    train_split: list[str] = Field(default_factory=lambda: ["training"], description="Subsets to train on.")
    val_split: list[str] = Field(default_factory=lambda: ["validation"], description="Subsets to evaluate on.")
    seed: int = Field(1234567891, ge=0, description="Seed of everything random.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    output_folder: str = Field("./ckpt", description="Where runs are written.")
    tiou_thresholds: list[float] = Field(
        default_factory=lambda: [0.3, 0.4, 0.5, 0.6, 0.7], description="tIoU thresholds of evaluation during training."
    )
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    loader: LoaderConfig = Field(default_factory=LoaderConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train_cfg: TrainConfig = Field(default_factory=TrainConfig)
    test_cfg: TestConfig = Field(default_factory=TestConfig)
    opt: OptimConfig = Field(default_factory=OptimConfig)
