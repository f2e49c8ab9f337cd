"""Pretraining of the encoder: it learns from the captions which vocabulary words an image has.

For an encoder without weights this is all it learns before fine-tuning. One with weights of another task (ImageNet's
classes) is adapted to the words of these captions: Wu et al., "What Value Do Explicit High Level Concepts Have in
Vision to Language Problems?" (CVPR 2016), section 3.1.

An encoder with pooled output is trained on the map that is pooled.
"""

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import Tensor

from showtell.core.precision import autocast, device
from showtell.data.batches import Batch, CaptionedImages, training_batches
from showtell.encoders.detection import DetectionParams, WordDetector, words_to_detect
from showtell.encoders.network import Encoder, usable_batch_norm
from showtell.learning.augmentation import augmented
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.encoder_learning import EncoderLearningParams, encoder_groups
from showtell.learning.loop import fit, seed_weights
from showtell.learning.optimisation import LoopParams
from showtell.learning.training_task import Counts, ParameterGroup, TrainingTask


class PretrainParams(LoopParams, EncoderLearningParams):
    """Pretraining of the encoder: word detection from images."""

    enabled: Literal["auto"] | bool = Field(description="auto: an encoder without weights; true: any; false: none")
    front_epochs: int = Field(ge=0, description="epochs in which the blocks before it learn as well")

    def applies_to(self, weights: str) -> bool:
        """Whether an encoder with these weights (`encoder.weights`) is pretrained."""
        return self.epochs > 0 and (weights == "none" if self.enabled == "auto" else self.enabled)


class WordDetectionTask(TrainingTask[Batch]):
    """The encoder with a word detector."""

    def __init__(self, encoder: Encoder, detector: WordDetector, params: PretrainParams):
        super().__init__()
        self.encoder, self.detector, self.params = encoder, detector, params
        self.batch_norm = usable_batch_norm(encoder, params.batch_norm, "pretrain.batch_norm")

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the first blocks after `front_epochs`: they learn fast, and cost the most, as their maps are the
        largest.

        Brock et al., "FreezeOut: accelerate training by progressively freezing layers" (2017).
        """
        if self.params.trainable_from is not None and epoch > self.params.front_epochs:
            self.encoder.train_from(self.params.trainable_from, self.batch_norm)

    def forward(self, images: Tensor) -> Tensor:
        """-log of the probability that a word is absent, (image, word)."""
        with autocast(self.params.precision):
            return self.detector(self.encoder.feature_map(images))

    def loss(self, batch: Batch, whole: Counts | None = None) -> Tensor:
        images = batch.images
        if self.training:
            images = augmented(images, self.encoder.crop, self.params)
        return self.loss_of(self(images), batch) / (whole or Counts.of(batch)).images

    def loss_of(self, absent: Tensor, batch: Batch) -> Tensor:
        """The loss of what `forward` gives, summed over the images."""
        return self.detector.loss(absent, batch.targets, batch.mask)

    def groups(self) -> list[ParameterGroup]:
        rate = self.params.learning_rate
        return encoder_groups(self.encoder, self.params, rate) + ParameterGroup.of(self.detector, rate)

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()


def word_validation(network: WordDetectionTask, dataset: CaptionedImages) -> Callable[[], dict[str, float]]:
    """A function that returns the loss on val and the F1 of words detected with a probability above 1/2."""

    def of_batch(batch: Batch) -> tuple[float, float, float, float]:
        absent, targets = network(batch.images), network.detector.targets(batch.targets)
        detected, loss = absent > math.log(2), float(network.loss_of(absent, batch))
        return loss, float((detected * targets).sum()), float(detected.sum()), float(targets.sum())

    def validate() -> dict[str, float]:
        parts = network.measure(dataset, of_batch)
        loss, right, found, there = (sum(column) for column in zip(*parts, strict=True))
        return {"val_loss": loss / len(dataset), "val_f1": 2 * right / max(found + there, 1.0)}

    return validate


def pretrain(
    encoder: Encoder,
    data: dict[str, CaptionedImages],
    vocabulary: int,
    words: DetectionParams,
    params: PretrainParams,
    checkpoints: Checkpoints,
) -> tuple[list[dict[str, float]], WordDetector]:
    """Train `encoder` in place on the words of data["train"] and freeze it; a row for each epoch, and the detector."""
    seed_weights(params.seed)
    detector = WordDetector(encoder, words_to_detect(data["train"].entries.blocks(), vocabulary, words))
    network = WordDetectionTask(encoder, detector, params).to(device())
    encoder.train_from(params.trainable_from)  # refuses an unknown block now, not epochs later
    encoder.train_from(None, network.batch_norm)
    batches = training_batches(data["train"], params.images_per_update, params.seed)
    history = fit(network, batches, word_validation(network, data["val"]), params, "val_f1", checkpoints)
    encoder.freeze()
    return history, detector
