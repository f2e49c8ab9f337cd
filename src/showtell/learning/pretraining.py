"""Pretraining of an encoder without weights: it learns from the captions which vocabulary words an image has.

An encoder with pooled output is trained on the map that is pooled.
"""

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from showtell.core.precision import autocast, device
from showtell.core.processes import all_gather
from showtell.data.batches import Batch, CaptionedImages, every_image, training_batches
from showtell.encoders.detection import DetectionParams, WordDetector, words_to_detect
from showtell.encoders.network import Encoder
from showtell.learning.augmentation import augmented
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import Counts, LoopParams, ParameterGroup, TrainingTask, fit, seed_weights

BATCH = 64  # images judged side by side; bounds memory, changes no result


class PretrainParams(LoopParams):
    """Pretraining, when the encoder has no weights: word detection from images."""

    enabled: bool = Field(description="false: leave an encoder without weights random")
    trainable_from: str | None = Field(description="first block of the encoder that learns to the end; null: all do")
    front_epochs: int = Field(ge=0, description="epochs in which the blocks before it learn as well")
    flip: bool = Field(description="mirror half of the training images")
    grey: float = Field(ge=0, le=1, description="share of the training images shown without colours")


class WordDetectionTask(TrainingTask[Batch]):
    """The encoder with a word detector."""

    def __init__(self, encoder: Encoder, detector: WordDetector, params: PretrainParams):
        super().__init__()
        self.encoder, self.detector, self.params = encoder, detector, params

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the first blocks after `front_epochs`: they learn fast, and cost the most, as their maps are the
        largest.

        Brock et al., "FreezeOut: accelerate training by progressively freezing layers" (2017).
        """
        if self.params.trainable_from is not None and epoch > self.params.front_epochs:
            self.encoder.train_from(self.params.trainable_from)

    def forward(self, images: Tensor) -> Tensor:
        """-log of the probability that a word is absent, (image, word)."""
        with autocast(self.params.precision):
            return self.detector(self.encoder.feature_map(images))

    def loss(self, batch: Batch, whole: Counts | None = None) -> Tensor:
        images = batch.images
        if self.training:
            images = augmented(images, self.encoder.crop, self.params.flip, self.params.grey)
        return self.detector.loss(self(images), batch.targets, batch.mask) / (whole or Counts.of(batch)).images

    def groups(self) -> list[ParameterGroup]:
        modules = self.encoder, self.detector
        return [group for module in modules for group in ParameterGroup.of(module, self.params.learning_rate)]

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()


def word_validation(network: WordDetectionTask, dataset: CaptionedImages) -> Callable[[], dict[str, float]]:
    """A function that returns the loss on val and the F1 of words detected with a probability above 1/2."""

    @torch.inference_mode()
    def validate() -> dict[str, float]:
        network.eval()
        parts = []
        for batch in every_image(dataset, BATCH):
            batch = batch.to(device())
            detected, targets = network(batch.images) > math.log(2), network.detector.targets(batch.targets)
            loss = float(network.loss(batch)) * len(targets)
            parts.append((loss, float((detected * targets).sum()), float(detected.sum()), float(targets.sum())))
        loss, right, found, there = (sum(column) for column in zip(*all_gather(parts), strict=True))
        return {"val_loss": loss / len(dataset), "val_f1": 2 * right / max(found + there, 1.0)}

    return validate


def pretrain(
    encoder: Encoder,
    data: dict[str, CaptionedImages],
    vocabulary: int,
    words: DetectionParams,
    params: PretrainParams,
    checkpoints: Checkpoints,
) -> list[dict[str, float]]:
    """Train `encoder` in place on the words of data["train"], freeze it, and return a row for each epoch."""
    seed_weights(params.seed)
    detector = WordDetector(encoder, words_to_detect(data["train"].entries.blocks(), words), vocabulary)
    network = WordDetectionTask(encoder, detector, params).to(device())
    if params.trainable_from is not None:
        encoder.train_from(params.trainable_from)  # refuses an unknown block now, not epochs later
    encoder.train_from_start()
    batches = training_batches(data["train"], params.images_per_update, params.seed)
    history = fit(network, batches, word_validation(network, data["val"]), params, "val_f1", checkpoints)
    encoder.freeze()
    return history
