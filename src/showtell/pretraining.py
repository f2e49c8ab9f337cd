"""An encoder without pretrained weights learns from the captions alone which words a picture calls for.

Every cell of the grid detects words; a picture has a word if any of its cells does. Fang et al., "From Captions to
Visual Concepts and Back" (CVPR 2015), section 3: multiple instance learning with a noisy-OR over regions. Because a
single cell has to speak up for a word, the grid learns where things are, which attention needs. Encoders whose output
is pooled learn the same way, from the map that is pooled.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from showtell.augmentation import augmented
from showtell.batches import Batch, CaptionedImages, every_image, training_batches
from showtell.checkpoints import Checkpoints
from showtell.encoders import Encoder
from showtell.errors import UserError
from showtell.precision import autocast, device
from showtell.processes import gathered
from showtell.training import Counts, Learner, LoopParams, fit, seed_weights
from showtell.vocabulary import UNK

BATCH = 64  # images judged side by side; bounds memory, changes no result


class PretrainParams(LoopParams):
    """`features`, when the encoder has no weights: learning words from pictures first."""

    enabled: bool = Field(description="false: leave an encoder without weights random")
    min_images: int = Field(ge=1, description="a word to learn occurs with at least so many training images")
    max_share: float = Field(gt=0, le=1, description="and with at most this share of them")
    flip: bool = Field(description="mirror half of the training images")
    grey: float = Field(ge=0, le=1, description="share of the training images shown without colours")


def words_to_learn(entries: Sequence[dict[str, Any]], params: PretrainParams) -> Tensor:
    """Tokens of the words that are neither too rare nor in nearly every picture's captions: ints (word,)."""
    images: dict[int, int] = {}
    for entry in entries:
        for token in {token for tokens in entry["tokens"] for token in tokens}:
            images[token] = images.get(token, 0) + 1
    most = params.max_share * len(entries)
    words = sorted(t for t, n in images.items() if t > UNK and params.min_images <= n <= most)
    if not words:
        raise UserError(
            f"no word occurs with {params.min_images} to {most:.0f} of {len(entries)} training images: lower "
            "pretrain.min_images, or set encoder.weights, or pretrain.enabled: false"
        )
    return torch.tensor(words)


class NoisyOr(torch.autograd.Function):
    """Scores (image, cell, word) -> -log of the probability that no cell has the word, (image, word).

    The sum over cells of log(1 + e^score), each to about 1e-7. `softplus` is more exact only for a cell that is all but
    certain to have nothing, and takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        rest = scores.abs().neg_().exp_().add_(1).log_()  # log(1 + e^score) - max(score, 0)
        return rest.add_(scores.clamp(min=0)).sum(dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        return torch.sigmoid(scores).mul_(grad.unsqueeze(1))


class WordNetwork(Learner):
    """Encoder and word detectors: which of `words` occur in any caption of an image."""

    def __init__(self, encoder: Encoder, words: Tensor, vocabulary: int, params: PretrainParams):
        super().__init__()
        self.encoder, self.params, self.vocabulary = encoder, params, vocabulary
        self.register_buffer("words", words, persistent=False)
        self.detect = nn.Linear(encoder.channels, len(words))
        # At first a word is in a picture with probability 1/20 or so, whatever the number of cells.
        nn.init.constant_(self.detect.bias, -math.log(20 * encoder.cells))

    def forward(self, images: Tensor) -> Tensor:
        """-log of the probability that a word is absent, (image, word): noisy-OR adds it up over cells."""
        with autocast(self.params.precision):
            scores = self.detect(self.encoder.look(images))  # (image, cell, word)
        return NoisyOr.apply(scores.float())

    def targets(self, batch: Batch) -> Tensor:
        """1.0 where a word occurs in a caption of the image: (image, word)."""
        present = torch.zeros(len(batch.targets), self.vocabulary, device=batch.targets.device)
        present.scatter_(1, batch.targets.flatten(1), 1.0)
        return present[:, self.words]

    def loss(self, batch: Batch, whole: Counts | None = None) -> Tensor:
        images = batch.images
        if self.training:
            images = augmented(images, self.encoder.crop, self.params.flip, self.params.grey)
        absent = self(images)  # -log P(absent)
        present = -torch.log(-torch.expm1(-absent.clamp(min=1e-6)))  # -log P(present)
        targets = self.targets(batch)
        real = batch.mask.flatten(1).any(dim=1).unsqueeze(1).to(absent.device)  # without captions it counts for nothing
        return (torch.where(targets > 0, present, absent) * real).sum() / (whole or Counts.of(batch)).images

    def groups(self) -> list[tuple[nn.Module, float]]:
        return [(self.encoder, self.params.learning_rate), (self.detect, self.params.learning_rate)]

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()


def word_validation(network: WordNetwork, dataset: CaptionedImages) -> Callable[[], dict[str, float]]:
    """A function that gives the loss on val and the F1 of words detected with probability over 1/2."""

    @torch.inference_mode()
    def validate() -> dict[str, float]:
        network.eval()
        parts = []
        for batch in every_image(dataset, BATCH):
            batch = batch.to(device())
            detected, targets = network(batch.images) > math.log(2), network.targets(batch)
            loss = float(network.loss(batch)) * len(targets)
            parts.append((loss, float((detected * targets).sum()), float(detected.sum()), float(targets.sum())))
        loss, right, found, there = (sum(column) for column in zip(*gathered(parts), strict=True))
        return {"val_loss": loss / len(dataset), "val_f1": 2 * right / max(found + there, 1.0)}

    return validate


def pretrain(
    encoder: Encoder,
    data: dict[str, CaptionedImages],
    vocabulary: int,
    params: PretrainParams,
    checkpoints: Checkpoints,
) -> list[dict[str, float]]:
    """Teach `encoder` the words of data["train"] in place, leave it frozen, and return a row for each epoch."""
    seed_weights(params.seed)
    network = WordNetwork(encoder, words_to_learn(data["train"].entries, params), vocabulary, params).to(device())
    encoder.train_from_start()
    batches = training_batches(data["train"], params.images_per_update, params.seed)
    history = fit(network, batches, word_validation(network, data["val"]), params, "val_f1", checkpoints)
    encoder.freeze()
    return history
