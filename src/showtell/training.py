"""Teaching a network to caption: the loop, its schedule, validation by generating, early stopping, going on after a kill.

Every epoch starts from a seed of its own, so it is a function of the weights and optimiser state it starts with and of
(seed, epoch): nothing about random numbers has to be saved, and a resumed run is the run it goes on with.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from showtell.batches import Batch
from showtell.checkpoints import Checkpoints
from showtell.decoders import Decoder
from showtell.encoders import Encoder
from showtell.losses import caption_loss
from showtell.params import Section
from showtell.precision import Precision, autocast, device
from showtell.progress import log, track


class LearningParams(Section):
    """What `train` and `finetune` have in common."""

    seed: int = Field(ge=0, description="of initial weights, order and dropout")
    epochs: int = Field(ge=1, description="passes over the training images at most")
    images_per_update: int = Field(ge=1, description="images, each with all its captions, in one update")
    learning_rate: float = Field(gt=0, lt=1, description="of the decoder, at its highest")
    optimizer: Literal["adam", "adamw"] = Field(description="optimiser")
    weight_decay: float = Field(ge=0, lt=1, description="decoupled weight decay (adamw), L2 (adam)")
    schedule: Literal["plateau", "cosine"] = Field(description="x decay after patience | falling to 0 along a cosine")
    warmup_updates: int = Field(ge=0, description="updates over which the learning rate rises from 0")
    decay: float = Field(gt=0, le=1, description="plateau: factor on the learning rate")
    patience: int = Field(ge=1, description="plateau: epochs without improvement before the factor")
    stop_after: int = Field(ge=1, description="epochs without improvement before training stops")
    clip: Literal["none", "value", "norm"] = Field(description="how gradients are clipped")
    clip_at: float = Field(gt=0, description="largest gradient value or norm")
    alpha_c: float = Field(ge=0, description="weight of the doubly stochastic attention penalty")
    label_smoothing: float = Field(ge=0, lt=1, description="share of probability spread over all words")
    select: Literal["cider", "bleu4"] = Field(description="metric of captions generated for val that picks the epoch")
    validation_beam: int = Field(ge=1, le=100, description="beam width of those captions")
    precision: Precision = Field(description="arithmetic of training")


class TrainParams(LearningParams):
    """`train`: the decoder, on cached features of the frozen encoder."""


class FinetuneParams(LearningParams):
    """`finetune`: decoder and encoder, from images."""

    encoder_learning_rate: float = Field(gt=0, lt=1, description="of the encoder, at its highest")
    trainable_from: str = Field(description="first block of the encoder that learns; those before it stay frozen")
    flip: bool = Field(description="mirror half of the training images")


class CaptionNetwork(nn.Module):
    """Decoder, with an encoder in front of it when that one learns too."""

    def __init__(self, decoder: Decoder, encoder: Encoder | None = None):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def features(self, images: Tensor) -> Tensor:
        """What the decoder sees: encoded images, or cached features as they are; float32."""
        return (self.encoder(images) if self.encoder is not None else images).float()

    def loss(self, batch: Batch, params: LearningParams) -> Tensor:
        with autocast(params.precision):
            decoded = self.decoder(self.features(batch.images), batch.inputs, batch.mask)
        return caption_loss(decoded, batch.targets, batch.mask, params.alpha_c, params.label_smoothing)

    def weights(self) -> dict[str, Tensor]:
        """All that learns, and the statistics that go with it."""
        state = {f"decoder.{name}": tensor.detach() for name, tensor in self.decoder.state_dict().items()}
        if self.encoder is not None:
            state |= {f"encoder.{name}": tensor.detach() for name, tensor in self.encoder.trainable_state().items()}
        return state


@dataclass
class Standing:
    """Where training stands at the end of an epoch."""

    epoch: int = 0  # epochs done
    update: int = 0  # updates done
    best: float = -math.inf  # best value of the selecting metric
    since_best: int = 0  # epochs since
    decays: int = 0  # times the plateau has lowered the learning rate


def fit(
    network: CaptionNetwork,
    epoch_batches: Callable[[int], Iterable[Batch]],
    validate: Callable[[], dict[str, float]],
    params: LearningParams,
    checkpoints: Checkpoints,
) -> list[dict[str, float]]:
    """Train until `epochs` or early stop, leave the best epoch's weights in `network`, and return a row for each epoch.

    `epoch_batches(epoch)` gives the batches (and has a length), `validate()` the metrics of the network as it stands.
    """
    optimizer = build_optimizer(network, params)
    standing, history = Standing(), []
    state = checkpoints.latest()
    if state is not None:
        standing, history = Standing(**state["standing"]), state["history"]
        network.load_state_dict(state["weights"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        log(f"going on after epoch {standing.epoch}")
    while standing.epoch < params.epochs and standing.since_best < params.stop_after:
        started = time.perf_counter()
        torch.manual_seed(params.seed * 1_000_003 + standing.epoch)
        loss = _train_epoch(network, epoch_batches(standing.epoch), optimizer, standing, params)
        row = {"epoch": standing.epoch + 1, "loss": loss, **validate()}
        improved = _advance(standing, row[params.select], params)
        history.append(row)
        log(_line(row, params, time.perf_counter() - started, improved))
        state = {
            "standing": vars(standing),
            "history": history,
            "weights": network.weights(),
            "optimizer": optimizer.state_dict(),
        }
        checkpoints.save(state, network.weights(), improved)
    network.load_state_dict(checkpoints.best(), strict=False)
    return history


def _train_epoch(
    network: CaptionNetwork, batches: Any, optimizer: torch.optim.Optimizer, standing: Standing, params: LearningParams
) -> float:
    """One pass; the mean loss per image batch. The loss is summed on the device: asking for it would wait for it."""
    network.train()
    where, total = device(), torch.zeros((), device=device())
    updates = len(batches)
    for batch in track(batches, f"epoch {standing.epoch + 1}", total=updates):
        scale = rate_scale(standing, params, updates * params.epochs)
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * scale
        optimizer.zero_grad(set_to_none=True)
        loss = network.loss(batch.to(where), params)
        loss.backward()
        clip_gradients(network, params)
        optimizer.step()
        total += loss.detach()
        standing.update += 1
    return float(total) / updates


def _advance(standing: Standing, value: float, params: LearningParams) -> bool:
    """Count the epoch; True when `value` is the best so far."""
    improved = value > standing.best
    standing.epoch += 1
    standing.best = max(standing.best, value)
    standing.since_best = 0 if improved else standing.since_best + 1
    if params.schedule == "plateau" and standing.since_best and standing.since_best % params.patience == 0:
        standing.decays += 1
    return improved


def _line(row: dict[str, float], params: LearningParams, seconds: float, improved: bool) -> str:
    numbers = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")
    return f"epoch {row['epoch']:>3}/{params.epochs}  {numbers}  {seconds:.1f} s{'  best' if improved else ''}"


def rate_scale(standing: Standing, params: LearningParams, updates: int) -> float:
    """Factor on the highest learning rates at the present update, of `updates` in all."""
    rise = min(1.0, (standing.update + 1) / max(1, params.warmup_updates))
    if params.schedule == "plateau":
        return rise * params.decay**standing.decays
    progress = max(0, standing.update - params.warmup_updates) / max(1, updates - params.warmup_updates)
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(network: CaptionNetwork, params: LearningParams) -> torch.optim.Optimizer:
    """Two groups, decoder and encoder, each with its highest learning rate under "highest"."""
    rates = [(network.decoder, params.learning_rate)]
    if network.encoder is not None:
        rates.append((network.encoder, params.encoder_learning_rate))
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "highest": rate} for module, rate in rates
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimizer]
    return kind(groups, lr=params.learning_rate, weight_decay=params.weight_decay)


def clip_gradients(network: nn.Module, params: LearningParams) -> None:
    learning = [p for p in network.parameters() if p.grad is not None]
    if params.clip == "value":
        nn.utils.clip_grad_value_(learning, params.clip_at)
    elif params.clip == "norm":
        nn.utils.clip_grad_norm_(learning, params.clip_at)
