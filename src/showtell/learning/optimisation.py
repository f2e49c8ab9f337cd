"""Optimisation: the parameters of a training, its learning-rate schedule, optimiser and gradient clipping."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from showtell.core.params import Section, fits_choice
from showtell.core.precision import Precision, device
from showtell.learning.training_task import TrainingTask

SEEDS = 1_000_003  # factor of a training's seed, so that no epoch of another seed has the same random numbers


class LoopParams(Section):
    """Parameters of every training: epochs, batch size, learning rate, precision."""

    model_config = ConfigDict(validate_default=True)  # keys that are left out are checked against the choices as well

    seed: int = Field(ge=0, lt=2**32, description="of initial weights, order and dropout")
    epochs: int = Field(ge=0, le=100_000, description="passes over the training images at most; 0: nothing is learnt")
    images_per_update: int = Field(ge=1, le=100_000, description="images in one update, each with its captions")
    accumulate: int = Field(ge=1, le=10_000, description="parts of an update, one after another: less memory")
    learning_rate: float = Field(gt=0, lt=1, description="at its highest; fine-tuning has another for the encoder")
    optimizer: Literal["adam", "adamw"] = Field(description="optimiser")
    weight_decay: float = Field(ge=0, lt=1, description="decoupled weight decay (adamw), L2 (adam)")
    schedule: Literal["plateau", "step", "cosine"] = Field(description="x decay when stuck | regularly | a cosine")
    warmup_updates: int = Field(ge=0, description="updates over which the learning rate rises from 0")
    decay: float | None = Field(None, gt=0, le=1, description="plateau, step: factor on the learning rate")
    patience: int | None = Field(None, ge=1, description="plateau: epochs without improvement before the factor")
    step_epochs: int | None = Field(None, ge=1, description="step: epochs between factors")
    cosine_end: float | None = Field(None, ge=0, le=1, description="cosine: share of the learning rate at the end")
    stop_after: int = Field(ge=1, description="epochs without improvement before training stops")
    clip: Literal["none", "value", "norm"] = Field(description="how gradients are clipped")
    clip_at: float | None = Field(None, gt=0, description="value, norm: largest gradient value or norm")
    ema: float = Field(ge=0, lt=1, description="decay of the moving average of weights that is validated and kept")
    precision: Precision = Field(description="arithmetic of training")

    @field_validator("decay", "patience", "step_epochs", "cosine_end", "clip_at")
    @classmethod
    def _fits_choice(cls, value: float | None, info: ValidationInfo) -> float | None:
        key, choices = _USED_BY[str(info.field_name)]
        return fits_choice(value, info, key, choices)


# Keys that only some choices use, and those choices.
_USED_BY = {
    "decay": ("schedule", ("plateau", "step")),
    "patience": ("schedule", ("plateau",)),
    "step_epochs": ("schedule", ("step",)),
    "cosine_end": ("schedule", ("cosine",)),
    "clip_at": ("clip", ("value", "norm")),
}


@dataclass
class TrainingProgress:
    """Progress of a training at the end of an epoch."""

    epoch: int = 0  # epochs done
    update: int = 0  # updates done
    best: tuple[float, float] | None = None  # `standing` of the best epoch
    since_best: int = 0  # epochs since the best
    decays: int = 0  # times the plateau has lowered the learning rate


def rate_scale(progress: TrainingProgress, params: LoopParams, updates: int) -> float:
    """Factor on the highest learning rates at the present update, of `updates` in all."""
    rise = min(1.0, (progress.update + 1) / max(1, params.warmup_updates))
    if params.schedule == "plateau":
        assert params.decay is not None  # checked by LoopParams, here and below
        return rise * params.decay**progress.decays
    if params.schedule == "step":
        assert params.decay is not None and params.step_epochs is not None
        return rise * params.decay ** (progress.epoch // params.step_epochs)
    assert params.cosine_end is not None
    passed = max(0, progress.update - params.warmup_updates) / max(1, updates - params.warmup_updates)
    fall = 0.5 * (1 - math.cos(math.pi * min(1.0, passed)))
    return rise * (1 - (1 - params.cosine_end) * fall)


def build_optimizer(task: TrainingTask, params: LoopParams) -> torch.optim.Optimizer:
    """The task's groups, each with its highest learning rate under "highest".

    Fused: one call for all tensors, on processors and accelerators; the unfused optimiser takes ten calls for each.
    """
    groups = [
        {
            "params": group.parameters,
            "highest": group.rate,
            "weight_decay": params.weight_decay if group.decays else 0.0,
        }
        for group in task.groups()
    ]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimizer]
    return optimizer(groups, lr=params.learning_rate, fused=True)


def build_scaler(params: LoopParams) -> torch.amp.GradScaler:
    """Loss scaling for fp16 gradients; disabled in other precisions."""
    return torch.amp.GradScaler(device().type, enabled=params.precision == "fp16")


def clip_gradients(task: nn.Module, params: LoopParams) -> Tensor:
    """Clip the gradients and return their norm (with clip: value, the norm after clipping)."""
    learning = [p for p in task.parameters() if p.grad is not None]
    if params.clip == "value" and params.clip_at is not None:
        nn.utils.clip_grad_value_(learning, params.clip_at)
    norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
    if params.clip == "norm" and params.clip_at is not None:
        nn.utils.clip_grads_with_norm_(learning, params.clip_at, norm)
    return norm


def remedy(optimizer: torch.optim.Optimizer, params: LoopParams) -> str:
    """Settings to change when training diverges, with their present values."""
    each = sorted({group["highest"] for group in optimizer.param_groups})
    rates = " and ".join(f"{rate:g}" for rate in each) if len(each) < 3 else f"{each[0]:g} to {each[-1]:g}"
    clip = f"lower clip_at ({params.clip_at:g})" if params.clip == "norm" else f"set clip: norm ({params.clip})"
    precision = "" if params.precision == "fp32" else f", or set precision: fp32 ({params.precision})"
    return f"lower the learning rate ({rates}), raise warmup_updates ({params.warmup_updates}), {clip}{precision}"
