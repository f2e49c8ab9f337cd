"""Reinforcement learning of the decoder: rewards are scores of captions that it samples.

Rennie et al., "Self-critical Sequence Training for Image Captioning" (CVPR 2017), section 3: REINFORCE (Williams 1992)
with a baseline. The baseline is the mean reward of the image's other samples (Luo, "A Better Variant of Self-Critical
Sequence Training", 2020) or, as in Rennie et al., the reward of the greedy caption. Neither depends on the sample
itself, so the gradient is an unbiased estimate of that of the expected reward.
Samples come from the distribution that is used for generation: no dropout, and never `<pad>`, `<start>` or `<unk>`.
Sampling is one pass without gradients, an image's samples side by side; the gradient comes from teacher forcing on the
samples.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.precision import autocast
from showtell.core.processes import all_gather
from showtell.data.batches import Batch, pad
from showtell.data.captions import Block
from showtell.data.vocabulary import END, PAD, START, Vocabulary
from showtell.decoders import Decoded, Decoder, DecoderParams
from showtell.generation.choices import draws_of, words_drawn
from showtell.generation.decoding import never_generated
from showtell.learning.caption_task import DecoderTask, SelectingParams
from showtell.learning.losses import caption_loss
from showtell.learning.optimisation import SEEDS
from showtell.learning.rewards import Rewards, Weights
from showtell.learning.training_task import Counts
from showtell.metrics.behaviour import FUNCTION_WORDS

MOST_BAD = 0.01  # share of bad endings above which `concerns` reports them
NEVER = never_generated(allow_unknown=False)  # tokens that are not sampled either


class ReinforceParams(SelectingParams):
    """`reinforce`: the decoder, on features of the fine-tuned encoder."""

    samples: int = Field(ge=1, le=100, description="captions drawn of an image in one update")
    baseline: Literal["mean", "greedy"] = Field(description="mean of the image's other samples | of the greedy caption")
    cider: float = Field(ge=0, le=100, description="weight of CIDEr-D (0 to 10) in the reward")
    consensus: float = Field(ge=0, le=100, description="weight of CIDEr-D with captions of similar training images")
    bleu4: float = Field(ge=0, le=100, description="weight of sentence BLEU-4 (0 to 1) in the reward")
    chair: float = Field(ge=0, le=100, description="weight of absent things (share of mentions) taken off the reward")
    truth: float = Field(ge=0, le=100, description="weight of objects named rightly less false mentions (shares)")
    odd_pairs: float = Field(ge=0, le=100, description="taken off for a function word before one it never precedes")
    length: float = Field(ge=0, le=100, description="taken off for each word above or below the references' mean")
    cross_entropy: float = Field(ge=0, le=100, description="weight of the loss on given captions beside the rewards")

    flip: bool = Field(description="mirror half of the training images")

    @field_validator("baseline")
    @classmethod
    def _has_samples_to_compare(cls, value: str, info: ValidationInfo) -> str:
        if value == "mean" and info.data.get("samples") == 1:
            raise PydanticCustomError("samples", "it compares an image's samples; samples must be 2 or more")
        return value

    @field_validator("truth")
    @classmethod
    def _has_a_reward(cls, value: float, info: ValidationInfo) -> float:
        if not any((value, *(info.data.get(key, 1) for key in ("cider", "consensus", "bleu4", "chair")))):
            raise PydanticCustomError("reward", "cider, consensus, bleu4 and chair are 0 as well; nothing is rewarded")
        return value

    @property
    def weights(self) -> Weights:
        return Weights(**{name: getattr(self, name) for name in Weights._fields})


def check_attention(decoder: DecoderParams, reinforce: ReinforceParams) -> None:
    """`UserError` when hard attention would learn from rewards alone. They are of captions for which it attends to the
    most probable cells, and that choice has no gradient; what given captions teach it does."""
    hard = getattr(decoder, "attention_kind", None) == "hard"
    if hard and reinforce.epochs and not reinforce.cross_entropy:
        raise UserError(
            "reinforce.cross_entropy = 0: hard attention (decoder.attention_kind) learns from given captions only; set "
            "it above 0"
        )


class Drawn(NamedTuple):
    """Sampled captions [image][sample], tokens without start, with the end token where it was generated."""

    captions: list[list[list[int]]]
    logprob: float  # sum over all tokens, natural log


@torch.no_grad()
def draw(decoder: Decoder, features: Tensor, steps: int, draws: Tensor | None) -> Drawn:
    """Sample captions of at most `steps` tokens. `draws` (image, sample, step), from 0 to below 1, determine the words;
    None: one greedy caption of each image."""
    samples = 1 if draws is None else draws.shape[1]
    step, state = decoder.steps(), decoder.start(features).repeat(samples)
    tokens = torch.full((len(features), samples, steps + 1), PAD, device=features.device)
    tokens[:, :, 0] = START
    rows = torch.arange(len(features), device=features.device)  # images that still have unfinished samples
    living = torch.ones(tokens.shape[:2], dtype=torch.bool, device=features.device)
    total = torch.zeros((), device=features.device)
    for place in range(steps):
        logits, state = step(state, tokens[rows, :, place])
        logits = logits.float()  # (image, sample, word)
        logits[..., NEVER] = -torch.inf
        logprobs = torch.log_softmax(logits, dim=-1)
        word = logprobs.argmax(dim=-1) if draws is None else words_drawn(logprobs.exp(), draws[rows, :, place])
        total += logprobs.gather(2, word.unsqueeze(2)).squeeze(2)[living].sum()
        tokens[rows, :, place + 1] = torch.where(living, word, PAD)
        living = living & (word != END)
        going = living.any(dim=1).nonzero().squeeze(1)
        if not len(going):
            break
        if len(going) < len(rows):
            rows, living, state = rows[going], living[going], state.keep_images(going)
    captions = [[[t for t in sample if t != PAD] for sample in image] for image in tokens[:, :, 1:].tolist()]
    return Drawn(captions, float(total))


def draws_for(seed: int, image_ids: Sequence[str], samples: int, steps: int) -> Tensor:
    """`draws_of` for images named by their ids."""
    names = [int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big") for image_id in image_ids]
    return draws_of(seed, names, samples, steps)


class Tally:
    """Statistics of the captions sampled in an epoch, as sums."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(("images", "reward", "spread", "captions", "tokens", "logprob", "words", "bad"), 0.0)

    def add(self, rewards: np.ndarray, drawn: Drawn, vocabulary: Vocabulary) -> None:
        captions = [caption for of_image in drawn.captions for caption in of_image]
        found = {
            "images": len(rewards),
            "reward": rewards.mean(axis=1).sum(),
            "spread": rewards.std(axis=1).sum(),
            "captions": len(captions),
            "tokens": sum(map(len, captions)),
            "logprob": drawn.logprob,
            "words": sum(len(caption) - (caption[-1:] == [END]) for caption in captions),
            "bad": sum(ends_badly(caption, vocabulary) for caption in captions),
        }
        self.sums = {key: value + float(found[key]) for key, value in self.sums.items()}

    def row(self) -> dict[str, float]:
        """Over all processes: mean reward, its spread (standard deviation over an image's samples, averaged), entropy
        (nats a word, estimated from the samples), words per caption, and the share of captions with a bad ending."""
        everybody = all_gather([tuple(self.sums.values())])
        sums = dict(zip(self.sums, (sum(column) for column in zip(*everybody, strict=True)), strict=True))
        images, captions = max(sums["images"], 1.0), max(sums["captions"], 1.0)
        return {
            "reward": sums["reward"] / images,
            "reward_spread": sums["spread"] / images,
            "entropy": -sums["logprob"] / max(sums["tokens"], 1.0),
            "mean_length": sums["words"] / captions,
            "bad_endings": sums["bad"] / captions,
        }


def ends_badly(caption: Sequence[int], vocabulary: Vocabulary) -> bool:
    """Whether a caption has no end token, is empty, or ends in a word that no English caption ends with."""
    return len(caption) < 2 or caption[-1] != END or vocabulary.words[caption[-2]] in FUNCTION_WORDS


class ReinforceTask(DecoderTask):
    """A decoder that learns from rewards, on stored features; with `cross_entropy` from given captions as well."""

    params: ReinforceParams

    def __init__(self, decoder: Decoder, params: ReinforceParams, rewards: Rewards, vocabulary: Vocabulary, steps: int):
        """`steps`: maximal length of a sampled caption, in tokens."""
        super().__init__(decoder, params)
        self.rewards, self.vocabulary, self.steps = rewards, vocabulary, steps
        self.epoch, self.tally = 0, Tally()

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.tally = epoch, Tally()

    def draws(self, image_ids: Sequence[str]) -> Tensor:
        """The random numbers of this epoch that determine the samples, (image, sample, step), from 0 to below 1."""
        return draws_for(self.params.seed * SEEDS + self.epoch, image_ids, self.params.samples, self.steps)

    def loss(self, batch: Batch, whole: Counts | None = None) -> Tensor:
        whole = whole or Counts.of(batch)
        loss = self.reward_loss(batch, whole)
        if self.params.cross_entropy:
            with autocast(self.params.precision):
                decoded = self.decoder(self.features(batch.images), batch.inputs, batch.mask)
            loss = loss + self.params.cross_entropy * self.given_loss(decoded, batch, whole)
        return loss

    def reward_loss(self, batch: Batch, whole: Counts) -> Tensor:
        """The policy-gradient loss. Its gradient estimates minus that of the expected reward; its value has no
        meaning."""
        learning, p = self.decoder.training, self.params
        self.decoder.eval()
        with autocast(p.precision):
            features = self.features(batch.images)
            drawn = draw(self.decoder, features, self.steps, self.draws(batch.image_ids).to(features.device))
            rewards = self.rewards(batch.image_ids, drawn.captions)  # (image, sample)
            advantage = rewards - self._baseline(rewards, features, batch.image_ids)
            real = batch.mask.flatten(1).any(dim=1).numpy()  # a process without images has one that is fully masked
            if real.any():
                self.tally.add(rewards, drawn, self.vocabulary)
            torch.clear_autocast_cache()  # PyTorch 2.9 would go on with weights cast without gradients
            order, inputs, targets, mask, weights = _batch(drawn, advantage * real[:, None])
            inputs, targets = inputs.to(features.device), targets.to(features.device)
            # cuDNN's recurrent networks have no backward pass in evaluation mode.
            with torch.backends.cudnn.flags(enabled=False):
                decoded = self.decoder(features[order], inputs, mask)
        self.decoder.train(learning)
        logits = decoded.logits.index_fill(1, torch.tensor(NEVER, device=features.device), -torch.inf)
        count = whole.images * p.samples
        return caption_loss(Decoded(logits, None), targets, mask, 0.0, 0.0, count, 1, weights.to(features.device))

    def _baseline(self, rewards: np.ndarray, features: Tensor, image_ids: Sequence[str]) -> np.ndarray:
        """The baseline of each sample's reward, (image, sample); it does not depend on that sample."""
        if self.params.baseline == "mean":
            return (rewards.sum(axis=1, keepdims=True) - rewards) / (rewards.shape[1] - 1)
        return self.rewards(image_ids, draw(self.decoder, features, self.steps, None).captions)


def _batch(drawn: Drawn, advantage: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The order of images; then inputs, targets, mask and weights (image, sample, step) of the samples as captions.

    Images and samples are sorted by length, longest first: decoders then stop early for the others.
    """
    lengths = np.array([[len(caption) for caption in of_image] for of_image in drawn.captions])
    samples = np.argsort(-lengths, axis=1, kind="stable")
    order = np.argsort(-lengths.max(axis=1), kind="stable")
    inputs, targets, mask = pad([[[START, *drawn.captions[image][k]] for k in samples[image]] for image in order])
    weights = torch.from_numpy(np.take_along_axis(advantage, samples, axis=1)[order]).float()
    return torch.from_numpy(order), inputs, targets, mask, weights.unsqueeze(2).expand(mask.shape)


def concerns(kept: dict[str, float], captions: Iterable[Block], samples: int) -> list[str]:
    """Known side effects of learning from rewards that the selected epoch's samples show, as lines for the log.

    `captions`: those of the training images. `samples`: number of captions drawn of each.
    """
    if "reward" not in kept:
        return ["no epoch was better than the model before: it is kept as it was"]
    given = [block.lengths - 2 for block in captions]  # (caption) words, without start and end
    words, length = sum(int(part.sum()) for part in given) / sum(map(len, given)), kept["mean_length"]
    found = []
    if kept["bad_endings"] > MOST_BAD:
        found.append(f"{kept['bad_endings']:.1%} of the captions drawn break off or end in a word such as 'a'")
    if abs(length - words) > 1:
        found.append(f"captions drawn have {length:.1f} words on average, given ones {words:.1f} (reinforce.length)")
    if samples > 1 and kept["reward_spread"] < 1e-9:  # a mean of equal numbers is rounded
        found.append("all captions drawn of an image are the same: nothing more can be learnt from them")
    return found


def reinforced_validation(
    task: ReinforceTask, validate: Callable[[], dict[str, float]]
) -> Callable[[], dict[str, float]]:
    """`validate`, and before it what the epoch's samples were like."""
    return lambda: {**(task.tally.row() if task.epoch else {}), **validate()}
