"""The typed schema of every configuration file: one class per section, every default and its reason in one place.

Units: "vectors" are feature vectors of the grid that a model sees, "frames" are source frames, "strides" are steps of
a pyramid level.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from eventide.config_section import AsList, Blocks, Count, Pair, PyramidBlocks, Section, later, section
from eventide.config_test_cfg import ChunkConfig as ChunkConfig
from eventide.config_test_cfg import TestConfig

DEFAULT_MAX_SEQ_LEN = 2304  # ActionFormer's, on THUMOS14 and EPIC-Kitchens
OPEN_RANGE = 10000.0  # upper bound of the last level: longer than any distance in practice (vectors)


class DatasetConfig(Section):
    json_file: str = Field("", description="Annotation file (ActivityNet-style JSON), from the working directory.")
    feat_folder: str | list[str] = Field(
        "",
        description="Feature folder, from the working directory, or folder or URL (s3://..., https://...) of shards "
        "that eventide shard has made; several are joined along the channels.",
    )
    file_prefix: str = Field("", description="Text before the recording id in the names of feature files.")
    file_ext: str = Field(".npy", description="Ending of feature files: .npy, .npz, .h5, .hdf5, .pt or .safetensors.")
    num_classes: int = Field(
        1, ge=1, description="Number of event classes. 1 while the annotations have more makes class-free proposals."
    )
    input_dim: Count | list[Count] = Field(
        2048, description="Channels of a feature vector; a list splits them into streams, each with its own projection."
    )
    feat_stride: float = Field(
        16.0,
        ge=-1,
        description="Frames from one feature vector to the next; -1: every file covers the duration of its recording, "
        "however many vectors it has (resized features of ActivityNet).",
    )
    num_frames: float = Field(16.0, ge=0, description="Frames that one feature vector was computed from.")
    default_fps: float | None = Field(
        None, gt=0, description="Frames per second of every recording; null reads each one's `fps` in the annotations."
    )
    downsample_rate: int = Field(1, ge=1, description="Keep every n-th feature vector, to save time and memory.")
    max_seq_len: int | None = Field(
        None,
        ge=1,
        description="Longest sequence in training (vectors); longer recordings are cut at random. "
        "Default: model.backbone.max_len, else 2304 as published for THUMOS14.",
    )
    trunc_thresh: float = Field(
        0.5, gt=0, le=1, description="Share of an event that a random cut must keep for the event to count."
    )
    crop_ratio: Pair | None = Field(
        None,
        description="Random crop of training recordings to a share between these two, e.g. [0.9, 1.0]; null: none.",
    )
    force_upsampling: bool = Field(
        False, description="Resize every recording to exactly max_seq_len vectors (the published ActivityNet recipe)."
    )
    missing: Literal["error", "skip"] = Field(
        "error", description="A missing feature file: an error, or the recording is left out, counted and printed."
    )
    events: Literal["segments", "points"] | None = Field(
        None,
        description="What is learnt and found: segments [start, end], or point events (times). Default: points with "
        "SnapFormer, else segments.",
    )
    point_position: Literal["start", "centre", "end"] = Field(
        "centre", description="Where the point event of an annotated segment lies when `events` is points."
    )


class LoaderConfig(Section):
    batch_size: int = Field(2, ge=1, description="Sequences per training step and process.")
    num_workers: int = Field(
        0, ge=0, description="Processes that load data; the result is the same for any number. 0 loads in the main one."
    )
    drop_last: bool = Field(
        False, description="Leave out the last, smaller batch of an epoch. Off, so that small sets lose nothing."
    )
    batching: Literal["longest", "bucketed", "fixed"] = Field(
        "longest",
        description="Training batches of random members padded to their longest; of similar length, which saves "
        "padding; or of random members padded to max_seq_len, as published.",
    )
    num_lengths: int | None = Field(
        None,
        ge=1,
        description="Different lengths that training batches are padded to, chosen from the data so that padding is "
        "least; null: each batch to its own longest, or 8 to 32 lengths with train_cfg.compile.",
    )


class BackboneConfig(Section):
    n_embd: Count | list[Count] = Field(
        512, description="Channels of the embedding; a list, one per input stream, is summed."
    )
    n_head: int = Field(4, ge=1, description="Attention heads; divides the channels.")
    n_kv_head: int | None = Field(
        None, ge=1, description="v2 only: heads of keys and values (grouped-query attention). Default: n_head."
    )
    n_hidden: int | None = Field(
        None, ge=1, description="v2 only: channels inside the feed-forward. Default: 4 n_embd, less with use_swiglu."
    )
    arch: Annotated[tuple[Blocks, Blocks, PyramidBlocks], AsList] = Field(
        (2, 2, 5),
        description="Embedding convolutions, blocks at full length, blocks that each make the next pyramid level: "
        "there are arch[2] + 1 levels.",
    )
    mha_win_size: int | list[int] = Field(
        -1,
        description="Attention window in positions of the level (odd, at least 3), one number or one per level; "
        "-1 is full attention.",
    )
    max_len: int | None = Field(
        None,
        ge=1,
        description="Length of the absolute position table (vectors), interpolated beyond. Default: max_seq_len.",
    )
    scale_factor: int = Field(2, ge=2, description="Length of a pyramid level over that of the next.")
    embd_kernel_size: int = Field(3, ge=1, description="Kernel of the embedding convolutions (odd).")
    embd_with_ln: bool = Field(True, description="Layer norm after each embedding convolution.")
    use_abs_pe: bool = Field(False, description="Add sinusoid position embeddings to the embedded features.")
    use_rel_pe: bool = Field(False, description="v1 only: a learnt bias per position of the attention window.")
    use_rope: bool | None = Field(None, description="v2 only: rotary position embeddings. Default under v2: true.")
    use_flash_attn: bool | None = Field(
        None, description="v2 only: fused attention, the same numbers in O(T) memory. Default under v2: true."
    )
    use_swiglu: bool | None = Field(None, description="v2 only: gated feed-forward. Default under v2: true.")
    use_rms_norm: bool | None = Field(
        None, description="v2 only: RMS norm in place of layer norm. Default under v2: true."
    )
    padding: Literal["own", "published"] = Field(
        "own",
        description="Length on which a sequence is computed: its own, so that padding never changes a result; or "
        "ActionFormer's padded length, which its checkpoints were trained with.",
    )


class HeatmapConfig(Section):
    """SnapFormer's class heatmap."""

    width: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] | Literal["duration"] | None = (
        Field(
            None,
            description="SnapFormer: standard deviation of the target Gaussian in seconds, one or per label; "
            "`duration`: half of that of the annotated segment; null: one grid step, which is also the least.",
        )
    )
    offset_weight: float = Field(1.0, ge=0, description="SnapFormer: weight of the sub-step offset loss.")


class ModelConfig(Section):
    meta_arch: Literal["LocPointTransformer", "SnapFormer", "TBTFormer"] = Field(
        "LocPointTransformer",
        description="Architecture: segments (ActionFormer), point events, or segments with uncertain boundaries.",
    )
    backbone_type: Literal["conv", "convTransformer", "convTransformerv2"] = Field(
        "convTransformer", description="Backbone: convolutions only, ActionFormer's transformer (v1), or v2."
    )
    backbone: BackboneConfig = section(BackboneConfig, "Backbone: sizes and switches.")
    fpn_type: Literal["identity", "fpn", "cs_fpn"] = Field(
        "identity", description="Neck: norms only, top-down, or top-down then bottom-up."
    )
    fpn_dim: int | None = Field(None, ge=1, description="Channels of the neck. Default: those of the backbone.")
    fpn_with_ln: bool = Field(True, description="Layer norm at the end of the neck.")
    fpn_start_level: int = Field(0, ge=0, description="First backbone level that the neck and the heads use.")
    head_dim: int | None = Field(None, ge=1, description="Channels of the heads. Default: those of the backbone.")
    head_kernel_size: int = Field(3, ge=1, description="Kernel of the head convolutions (odd).")
    head_num_layers: int = Field(3, ge=1, description="Convolutions per head, the last one included.")
    head_with_ln: bool = Field(True, description="Layer norm in the heads.")
    regression_range: list[Pair] | None = Field(
        None,
        description="Per level, the distances (vectors) to an event's farther end, [low, high], that its points learn. "
        "Default: 0-4, 4-8, ... doubling, the last open (10000).",
    )
    reg_max: int | None = Field(
        None, ge=1, description="TBTFormer only: bins per boundary distribution, less one. Default: 16."
    )
    dfl_weight: float | None = Field(
        None, ge=0, description="TBTFormer only: weight of the distribution focal loss. Default: 0.25."
    )
    target_width: float | None = Field(
        None,
        ge=0,
        description="TBTFormer only: standard deviation of the targets of the boundary distributions (vectors); 0: the "
        "labels as they are. Default: 1.",
    )
    heatmap: HeatmapConfig = section(HeatmapConfig, "SnapFormer: class heatmap.")


class TrainConfig(Section):
    center_sample: Literal["radius", "none"] = Field(
        "radius", description="Positive points: near an event's centre only, or anywhere inside it."
    )
    center_sample_radius: float = Field(1.5, gt=0, description="Reach of centre sampling, in strides of the level.")
    loss_weight: float = Field(
        1.0, description="Weight of the boundary loss; 0 or less balances it against the class loss by itself."
    )
    cls_prior_prob: float = Field(
        0.01, ge=0, lt=1, description="Class probability at the start, small since most points are empty; 0: unset."
    )
    init_loss_norm: float = Field(
        100.0, gt=0, description="First value of the running number of positive points, which divides the losses."
    )
    loss_norm_momentum: float = Field(0.9, ge=0, lt=1, description="Share that a step keeps of that running number.")
    clip_grad_l2norm: float = Field(
        1.0, description="Longest gradient (L2 norm over all parameters); 0 or less: no clipping."
    )
    head_empty_cls: list[int] = Field(
        default_factory=list, description="Label ids without examples: their scores start, and stay, near zero."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout after attention and feed-forward.")
    droppath: float = Field(0.1, ge=0, lt=1, description="Share of residual branches dropped, per sample.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Smoothing of the class targets.")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="Largest decay of the averaged weights, which are the ones evaluated; 0: none."
    )
    ema_ramp: bool = Field(
        True,
        description="Let the decay grow with the step n, min(ema_decay, (1 + n) / (10 + n)): a constant one lags "
        "behind in short trainings.",
    )
    max_bad_steps: int = Field(
        10, ge=1, description="Steps in a row with a non-finite loss or gradient after which training stops."
    )
    checkpoint_minutes: float = Field(
        5.0, ge=0, description="Minutes between checkpoints within an epoch, besides one at its end; 0: none."
    )
    keep_checkpoints: int = Field(
        3, ge=1, description="Training checkpoints kept, the newest; the best model is extra."
    )
    accum_steps: int = Field(1, ge=1, description="Batches whose gradients are added up for one optimiser step.")
    cls_loss: Literal["focal", "quality_focal"] = Field(
        "focal",
        description="Class loss. quality_focal teaches as score how well the boundaries fit, in place of 1.",
    )
    reg_loss: Literal["diou", "giou", "eiou"] = Field(
        "diou", description="Boundary loss: overlap (giou), also distance of centres (diou), also lengths (eiou)."
    )
    teacher_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share that the averaged model's own boundaries come to have in the targets of the boundary loss: "
        "noisy labels are then not learnt by heart. From 0 after a tenth of the training to this after three tenths. "
        "Default: 0.7 with TBTFormer, else 0.",
    )
    compile: bool = Field(False, description="Train through torch.compile, one graph per padded length; needs g++.")
    auto_microbatch: bool = Field(
        False,
        description="When memory runs out in a step, halve its micro-batches, do twice as many and go on: the "
        "gradients, and so the result, stay those of the whole batches.",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="How several processes share the model: each has it whole (ddp), or keeps a part of it and borrows "
        "the rest layer by layer (fsdp), for models that do not fit whole. auto is ddp. The result is the same.",
    )
    async_checkpoints: bool = Field(
        True, description="Write checkpoints beside the training, from a copy in memory; false: training waits."
    )


class OptimConfig(Section):
    type: Literal["AdamW", "SGD"] = Field("AdamW", description="Optimiser.")
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate at the end of warm-up.")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only: momentum.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay; not on biases, norms, scales and embeddings.")
    epochs: int = Field(30, ge=1, description="Epochs after warm-up.")
    warmup: bool = Field(True, description="Raise the learning rate from 0, step by step, over warmup_epochs.")
    warmup_epochs: int = Field(5, ge=0, description="Epochs of warm-up, in addition to epochs; unused without warmup.")
    schedule_type: Literal["cosine", "multistep"] = Field(
        "cosine", description="After warm-up: fall to 0 along a cosine, or drop at schedule_steps."
    )
    schedule_steps: list[int] = Field(
        default_factory=list, description="multistep only: epochs, counted after warm-up, at which the rate drops."
    )
    schedule_gamma: float = Field(0.1, gt=0, description="multistep only: factor of each drop.")
    early_stop_epochs: int | None = later(None, "Stop after this many epochs, warm-up included; null: run all.", ge=1)
    scale_learning_rate: bool | None = Field(
        None,
        description="Multiply the learning rate by processes x accum_steps; null: train_ddp.py does so, train.py not.",
    )


class Config(Section):
    """A whole experiment."""

    dataset_name: str = Field("custom", description="Name of the data set, for messages and logs.")
    train_split: list[str] = Field(
        default_factory=lambda: ["training"], min_length=1, description="Subsets to train on (letter case is ignored)."
    )
    val_split: list[str] = Field(
        default_factory=lambda: ["validation"], min_length=1, description="Subsets to evaluate on."
    )
    seed: int = Field(1234567891, ge=0, lt=2**32, description="Seed of everything random: one seed, one result.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (the first of CUDA, MPS and CPU that is there), cpu, mps, cuda or cuda:N.",
    )
    output_folder: str = Field("./ckpt", min_length=1, description="Folder in which each run gets its own folder.")
    tiou_thresholds: list[float] = Field(
        default_factory=lambda: [0.3, 0.4, 0.5, 0.6, 0.7],
        min_length=1,
        description="tIoU thresholds of the mAP measured during training; its average picks the best model.",
    )
    tolerances: list[float] = Field(
        default_factory=lambda: [0.25, 0.5, 1.0],
        min_length=1,
        description="Tolerances (seconds) of the point mAP measured during training; its average picks the best model.",
    )
    dataset: DatasetConfig = section(DatasetConfig, "Annotations, features, augmentation.")
    loader: LoaderConfig = section(LoaderConfig, "Batches.")
    model: ModelConfig = section(ModelConfig, "Network.")
    train_cfg: TrainConfig = section(TrainConfig, "Targets, losses, training loop.")
    test_cfg: TestConfig = section(TestConfig, "From raw outputs to detections.")
    opt: OptimConfig = section(OptimConfig, "Optimiser and schedule.")

    def resolve(self) -> Config:
        """A copy in which every value that follows from others is filled in; what was given is kept as it is."""
        model, backbone, dataset = self.model.model_copy(), self.model.backbone.model_copy(), self.dataset.model_copy()
        train = self.train_cfg.model_copy()
        given_len = dataset.max_seq_len or backbone.max_len or DEFAULT_MAX_SEQ_LEN
        fill(dataset, max_seq_len=given_len)
        fill(dataset, events="points" if model.meta_arch == "SnapFormer" else "segments")
        fill(backbone, max_len=given_len)
        channels, levels = sum_of(backbone.n_embd), backbone.arch[2] + 1
        fill(model, fpn_dim=channels, head_dim=channels)
        fill(model, regression_range=default_ranges(levels - model.fpn_start_level))
        if isinstance(backbone.mha_win_size, int):
            backbone.mha_win_size = [backbone.mha_win_size] * levels
        if model.meta_arch == "TBTFormer":
            fill(model, reg_max=16, dfl_weight=0.25, target_width=1.0)
        averages = train.ema_decay > 0
        fill(train, teacher_share=0.7 if averages and model.meta_arch == "TBTFormer" else 0.0)
        if model.backbone_type == "convTransformerv2":
            fill(backbone, use_rope=True, use_flash_attn=True, use_swiglu=True, use_rms_norm=True)
            fill(backbone, n_kv_head=backbone.n_head)
        model.backbone = backbone
        return self.model_copy(update={"model": model, "dataset": dataset, "train_cfg": train})


def fill(section: Section, **values: Any) -> None:
    """Set those keys of a section that are null."""
    for key, value in values.items():
        if getattr(section, key) is None:
            setattr(section, key, value)


def sum_of(channels: int | list[int]) -> int:
    """Total channels of one stream or several."""
    return channels if isinstance(channels, int) else sum(channels)


def default_ranges(levels: int) -> list[tuple[float, float]]:
    """Regression ranges (0, 4), (4, 8), (8, 16), ... of `levels` levels (at least 1), the last one open."""
    bounds = [0.0, *(4.0 * 2**level for level in range(max(levels, 1) - 1)), OPEN_RANGE]
    return list(pairwise(bounds))
