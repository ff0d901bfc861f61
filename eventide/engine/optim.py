"""The optimiser: which parameters decay, and the total gradient norm with one read by the host."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from eventide.config import OptimConfig
from eventide.types import EventideError

# Weights of these modules are matrices that mix channels; decay acts on them only.
MIXING_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Scales and embeddings by the last part of their name, wherever they live.
UNDECAYED_NAMES = ("scale", "rel_pe", "gain")


def decay_groups(*modules: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Parameters of `modules` by name, those that weight decay acts on and those it leaves alone.

    Raises:
        EventideError: a parameter fits no rule; every architecture must say by type or name what its parameters are.
    """
    decayed: dict[str, nn.Parameter] = {}
    undecayed: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    unknown: list[str] = []
    for root in modules:
        for prefix, module in root.named_modules():
            for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
                if id(parameter) in seen or not parameter.requires_grad:
                    continue
                seen.add(id(parameter))
                rule = _decays(name.rpartition(".")[2], module)
                if rule is None:
                    unknown.append(f"{name} (in a {type(module).__name__})")
                else:
                    (decayed if rule else undecayed)[name] = parameter
    if unknown:
        raise EventideError(
            f"no weight decay rule for {', '.join(unknown[:5])}: a parameter must be the weight of a linear map or a "
            f"convolution, belong to a norm or an embedding, or be named bias or {' or '.join(UNDECAYED_NAMES)}"
        )
    return decayed, undecayed


def _decays(name: str, module: nn.Module) -> bool | None:
    """Whether decay acts on parameter `name` of `module`; None where no rule fits."""
    if name == "bias" or name.endswith("_bias") or name in UNDECAYED_NAMES:
        return False
    if isinstance(module, nn.Embedding) or type(module).__name__.endswith(("Norm", "Norm1d")):
        return False
    if name == "weight" and isinstance(module, MIXING_MODULES):
        return True
    return None


def build_optimizer(opt: OptimConfig, *modules: nn.Module) -> Optimizer:
    """AdamW or SGD over the parameters of `modules`; the learning rate is set before every step by the caller."""
    decayed, undecayed = decay_groups(*modules)
    groups = [
        {"params": [decayed[name] for name in sorted(decayed)], "weight_decay": opt.weight_decay},
        {"params": [undecayed[name] for name in sorted(undecayed)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = _can_fuse([*decayed.values(), *undecayed.values()])
    if opt.type == "SGD":
        return SGD(groups, lr=opt.learning_rate, momentum=opt.momentum, fused=fused)
    return AdamW(groups, lr=opt.learning_rate, fused=fused)


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    """Whether one kernel can update all parameters (CPU, CUDA and MPS, floating point)."""
    return all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Total L2 norm of all gradients of the optimiser, a scalar on their device; the host does not wait for it."""
    gradients = _gradients(optimizer)
    if not gradients:
        return torch.zeros(())
    return torch.nn.utils.get_total_norm(gradients)


def scale_gradients(optimizer: Optimizer, factor: float) -> None:
    """Multiply all gradients by `factor`, in place."""
    torch._foreach_mul_(_gradients(optimizer), factor)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters that the optimiser updates."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [p.grad for p in parameters_of(optimizer) if p.grad is not None]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
