"""A training task small enough to compute by hand, and parameters, batches and decoders for it."""

import torch
from conftest import tiny_params
from decoder_systems import unread
from tiny_networks import batch_of
from torch import nn

from showtell.core.workplace import Workplace
from showtell.data.batches import Batch
from showtell.decoders import Decoder, DecoderParams, build_decoder
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit
from showtell.learning.optimisation import LoopParams
from showtell.learning.training_task import Counts, ParameterGroup, TrainingTask

# Keys that a choice requires and others refuse.
NEEDED = {
    "plateau": {"decay": 0.8, "patience": 8},
    "step": {"decay": 0.8, "step_epochs": 3},
    "cosine": {"cosine_end": 0.0},
    "none": {},
    "value": {"clip_at": 5.0},
    "norm": {"clip_at": 5.0},
}


def loop_params(schedule: str = "plateau", clip: str = "none", **changes) -> LoopParams:
    values = {key: value for key, value in tiny_params()["pretrain"].items() if key in LoopParams.model_fields}
    values |= {"epochs": 6, "precision": "fp32", "schedule": schedule, "clip": clip, "optimizer": "adam"}
    values |= {"cosine_end": None, "clip_at": None, "ema": 0.0, "weight_decay": 0.0}
    return LoopParams.model_validate(values | NEEDED[schedule] | NEEDED[clip] | changes)


class Line(TrainingTask):
    """Learns the sum of three numbers, with dropout, so that random numbers matter, and a frozen layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fixed, self.linear = nn.Linear(3, 3), nn.Linear(3, 1)
        self.fixed.requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def loss(self, batch: Batch, whole: Counts | None = None):
        error = self.linear(self.dropout(self.fixed(batch.images))).squeeze(1) - batch.images.sum(1)
        return (error**2).sum() / (whole or Counts.of(batch)).images

    def groups(self):
        return ParameterGroup.of(self.linear, 0.05)

    def weights(self):
        return {f"linear.{name}": tensor for name, tensor in self.linear.state_dict().items()}


def epoch_batches(epoch: int) -> list[Batch]:
    return [batch_of(10 * epoch + number) for number in range(3)]


def run(tmp_path, learner: TrainingTask, params: LoopParams, scores: list[float] | None = None, batches=epoch_batches):
    tmp_path.mkdir(exist_ok=True)
    given = iter(scores or [])

    def validate() -> dict[str, float]:
        return {"score": next(given) if scores else -float(learner.linear.weight.detach().sub(1).abs().sum())}

    return fit(learner, batches, validate, params, "score", Checkpoints(Workplace(tmp_path)))


def grid_batch(seed: int = 0, images: int = 5) -> Batch:
    batch = batch_of(seed, images)
    return batch._replace(images=torch.randn(images, 4, 5, generator=torch.Generator().manual_seed(seed)))


def decoder_of(kind: str, words: int, **changes) -> Decoder:
    values = tiny_params()["decoder"] | {"kind": kind} | changes
    if kind != "attention":
        projection = "batch_norm" if kind == "pre_inject" else "linear"
        values |= unread(kind) | {"initial_tanh": False, "image_projection": projection}
    torch.manual_seed(1)
    return build_decoder(DecoderParams.model_validate(values), 5, words)
