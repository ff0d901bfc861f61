"""Parts that the architectures share, built from a resolved configuration."""

from __future__ import annotations

from eventide.config import Config
from eventide.layers.blocks import BlockStyle
from eventide.layers.canvas import CanvasRule
from eventide.models.backbones import Embedding, PyramidBackbone, conv_backbone, transformer_backbone
from eventide.models.heads import ClassHead, HeadShape
from eventide.models.necks import CrossScaleNeck, IdentityNeck, PyramidNeck


def backbone_width(config: Config) -> int:
    """Channels of the pyramid."""
    channels = config.model.backbone.n_embd
    return channels if isinstance(channels, int) else sum(channels)


def build_backbone(config: Config) -> PyramidBackbone:
    """The backbone that `model.backbone_type` names."""
    settings = config.model.backbone
    with_positions = settings.use_abs_pe and config.model.backbone_type != "conv"
    embedding = Embedding(
        inputs=config.dataset.input_dim,
        channels=settings.n_embd,
        layers=settings.arch[0],
        kernel=settings.embd_kernel_size,
        with_norm=settings.embd_with_ln,
        rms=bool(settings.use_rms_norm),
        position_length=settings.max_len if with_positions else None,
    )
    if config.model.backbone_type == "conv":
        return conv_backbone(embedding, settings.arch, settings.scale_factor)
    return transformer_backbone(embedding, settings.arch, settings.scale_factor, _block_style(config), _windows(config))


def _block_style(config: Config) -> BlockStyle:
    """The switches of v2, all off under v1 but for the fused kernels, which change speed and memory only."""
    settings, train = config.model.backbone, config.train_cfg
    v1 = config.model.backbone_type == "convTransformer"
    return BlockStyle(
        heads=settings.n_head,
        shared_heads=settings.n_kv_head,
        hidden=settings.n_hidden,
        rotary=bool(settings.use_rope),
        fused=v1 or bool(settings.use_flash_attn),
        gated=bool(settings.use_swiglu),
        rms=bool(settings.use_rms_norm),
        use_rel_pe=settings.use_rel_pe,
        dropout=train.dropout,
        droppath=train.droppath,
    )


def build_neck(config: Config, levels: int) -> IdentityNeck | PyramidNeck:
    """The neck that `model.fpn_type` names."""
    model = config.model
    width = backbone_width(config)
    if model.fpn_type == "identity":
        return IdentityNeck(levels, model.fpn_dim or width, model.fpn_with_ln)
    kind = CrossScaleNeck if model.fpn_type == "cs_fpn" else PyramidNeck
    return kind(levels, width, model.fpn_dim or width, model.fpn_with_ln, model.backbone.scale_factor)


def head_shape(config: Config) -> HeadShape:
    """Sizes of the heads."""
    model, width = config.model, backbone_width(config)
    inputs, channels = model.fpn_dim or width, model.head_dim or width
    return HeadShape(inputs, channels, model.head_kernel_size, model.head_num_layers, model.head_with_ln)


def build_class_head(config: Config) -> ClassHead:
    """The head of class logits, its first scores as `train_cfg` says."""
    train = config.train_cfg
    prior, empty = train.cls_prior_prob, train.head_empty_cls
    return ClassHead(head_shape(config), config.dataset.num_classes, prior_probability=prior, empty_classes=empty)


def level_strides(config: Config) -> list[int]:
    """Strides of the pyramid levels that the neck and the heads read, in grid steps."""
    first, last = config.model.fpn_start_level, config.model.backbone.arch[2]
    return [config.model.backbone.scale_factor**level for level in range(first, last + 1)]


def build_canvas_rule(config: Config) -> CanvasRule:
    """How long the canvas of a sequence is."""
    settings, model = config.model.backbone, config.model
    strides = [settings.scale_factor**level for level in range(settings.arch[2] + 1)]
    # The published code pairs windows with the strides from the start level on; kept, since its checkpoints were
    # padded that way.
    published = zip(strides[model.fpn_start_level :], _windows(config), strict=False)
    divisor = max(stride * (window // 2) * 2 if window > 1 else stride for stride, window in published)
    reach = max(model.head_kernel_size // 2, settings.embd_kernel_size // 2, 1)
    return CanvasRule(settings.padding, config.dataset.max_seq_len or 1, divisor, reach * strides[-1])


def _windows(config: Config) -> list[int]:
    settings = config.model.backbone
    windows = settings.mha_win_size
    return [windows] * (settings.arch[2] + 1) if isinstance(windows, int) else list(windows)
