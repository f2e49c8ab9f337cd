"""Learning from rewards: one update, and the rewards of many sampled captions alone.

    python benchmarks/rewards.py [--quick] [--rounds 3] [--json]

An update draws 5 captions of each of 10 images, rewards them by CIDEr-D and learns from them, fp32. The plain side
keeps a grid of 14 x 14 for every sample, samples step by step with gradients enabled, as published code does, and
computes rewards by pycocoevalcap. Both sides use the same random numbers; rewards and gradients must be the same. Then
the rewards of 5,000 captions: ours takes tokens, pycocoevalcap the same words as strings; document frequencies, which
are counted once for a training, are not timed on our side. Needs the package pycocoevalcap.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import setting
import torch
from measure import Result, alternate, arguments, device_name, report, require, seconds, threads
from plain import PlainDecoder
from setting import CAPTIONS
from torch import Tensor

from metrics import drawn
from showtell.data.caption_writer import write_captions
from showtell.data.captions import CaptionFile
from showtell.data.vocabulary import END, SPECIALS, START, Vocabulary
from showtell.learning.reinforcement import NEVER, ReinforceTask
from showtell.learning.rewards import Rewards, Weights

TARGETS = {"update": 4.0, "rewards": 20.0}
CLOSE = 1e-9  # of rewards
GRADIENTS = 1e-4  # relative to the largest gradient of a tensor: fp32 sums in another order
Tokens = list[list[list[int]]]  # [image][caption]


def vocabulary_of(words: int) -> Vocabulary:
    count = words - len(SPECIALS)
    return Vocabulary([f"w{number}" for number in range(count)], [1] * count)


def captions_of(image_ids: Sequence[str], references: Tokens) -> CaptionFile:
    """In unnamed files, which exist as long as they are mapped."""
    entries = (
        {"image_id": image_id, "tokens": [[START, *tokens] for tokens in of_image]}
        for image_id, of_image in zip(image_ids, references, strict=True)
    )
    with TemporaryDirectory() as folder:
        return write_captions(Path(folder) / "train.json", entries)


def texts(captions: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, tokens)) for tokens in captions]


def their_rewards(references: list[list[str]], captions: list[list[str]]) -> np.ndarray:
    """CIDEr-D (image, sample) by the reference scorer, which scores one caption of an image at a time."""
    from pycocoevalcap.cider.cider import Cider

    truth, scores = dict(enumerate(references)), []
    for of_sample in zip(*captions, strict=True):
        scores.append(Cider().compute_score(truth, {image: [text] for image, text in enumerate(of_sample)})[1])
    return np.stack(scores, axis=1)


class PlainUpdate:
    """An update as in published code."""

    def __init__(self, decoder: PlainDecoder, grid: Tensor, references: list[list[str]], draws: Tensor, rate: float):
        self.decoder, self.references = decoder, references
        self.grid, self.draws = grid.repeat_interleave(draws.shape[1], dim=0), draws.flatten(0, 1)  # (sample, ...)
        self.shape = draws.shape[:2]
        self.optimizer = torch.optim.Adam(decoder.parameters(), lr=rate)
        self.captions: Tokens = []

    def gradients(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        hidden, cell = self.decoder.start(self.grid)
        word = torch.full((len(self.grid),), START)
        living, said, logprobs = torch.ones(len(word), dtype=torch.bool), [], []
        for step in range(self.draws.shape[1]):
            scores, hidden, cell, _ = self.decoder.step(self.grid, self.decoder.embedding(word), hidden, cell)
            scores = scores.index_fill(1, torch.tensor(NEVER), -torch.inf)
            logprob = torch.log_softmax(scores, dim=1)
            reached = logprob.detach().exp().cumsum(dim=1)
            word = torch.searchsorted(reached, self.draws[:, step, None] * reached[:, -1:], right=True).squeeze(1)
            word = torch.where(living, word, 0)
            logprobs.append(torch.where(living, logprob.gather(1, word.unsqueeze(1)).squeeze(1), 0.0))
            said.append(word)
            living = living & (word != END)
            if not living.any():
                break
        flat = [[token for token in tokens if token] for tokens in torch.stack(said, dim=1).tolist()]
        samples = self.shape[1]
        self.captions = [flat[start : start + samples] for start in range(0, len(flat), samples)]
        rewards = their_rewards(self.references, [texts(of_image) for of_image in self.captions])
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (samples - 1)
        advantage = torch.from_numpy(rewards - others).float().flatten()
        loss = -(advantage * torch.stack(logprobs).sum(dim=0)).sum() / len(flat)
        loss.backward()
        return loss.detach()

    def __call__(self) -> Tensor:
        loss = self.gradients()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 5.0)
        self.optimizer.step()
        return loss


def update(args: argparse.Namespace) -> Result:
    sizes, images = (setting.QUICK, 4) if args.quick else (setting.FULL, 10)
    decoder = setting.speaks(setting.decoder_of(sizes), sizes)
    features = setting.grids(sizes, images)
    batch = setting.captioned(sizes, features)._replace(image_ids=[str(number) for number in range(images)])
    pairs = zip(batch.targets, batch.mask, strict=True)
    references = [[t[m].tolist() for t, m in zip(*of_image, strict=True)] for of_image in pairs]
    params = setting.published("reinforce", precision="fp32", clip="norm", clip_at=5.0)
    steps = sizes.longest + 8
    rewards = Rewards(captions_of(batch.image_ids, references), vocabulary_of(sizes.words), Weights(1.0))
    task = ReinforceTask(decoder, params, rewards, vocabulary_of(sizes.words), steps)
    draws = task.draws(batch.image_ids)
    grid = setting.pooled(features, setting.published("decoder").grid)
    words = [texts(of_image) for of_image in references]
    theirs = PlainUpdate(PlainDecoder(decoder), grid, words, draws, params.learning_rate)
    ours = setting.TaskUpdates(task, params)
    losses = float(theirs.gradients()), float(ours.gradients(batch))
    found = rewards(batch.image_ids, theirs.captions)
    off = float(np.abs(found - their_rewards(words, [texts(c) for c in theirs.captions])).max())
    require(off < CLOSE, f"rewards by {off:.1e}")
    gap = setting.difference(setting.gradients(theirs.decoder), setting.gradients(decoder))
    require(gap.whole < GRADIENTS, f"gradients by {gap}")
    timing = alternate(theirs, lambda: ours(batch), args.rounds)
    lengths = [len(tokens) for of_image in theirs.captions for tokens in of_image]
    detail = (
        f"plain {seconds(timing.plain)}, ours {seconds(timing.ours)}; rewards within {off:.0e}, gradients {gap}; loss "
        f"{losses[0]:.4f} and {losses[1]:.4f}, samples of {min(lengths)} to {max(lengths)} tokens"
    )
    grids = f"{sizes.cells} cells x {sizes.channels}"
    what = f"{images} images x {params.samples} samples, {grids}, vocabulary {sizes.words:,}"
    return Result(
        "update from rewards, fp32", timing.ratio, TARGETS["update"], what, threads(), detail, device=device_name()
    )


def many(args: argparse.Namespace) -> Result:
    """5,000 captions of 1,000 images, generated as in metrics.py: the first sample is a caption of the image, the
    others are of other images."""
    images = 40 if args.quick else 1000
    references, hypotheses = drawn(images)
    table: dict[str, int] = {}

    def tokens(text: str) -> list[int]:
        return [table.setdefault(word, len(SPECIALS) + len(table)) for word in text.split()] + [END]

    truth = [[tokens(text) for text in references[image]] for image in range(images)]
    said = [[tokens(hypotheses[(image + k * 7) % images][0]) for k in range(CAPTIONS)] for image in range(images)]
    ids = [str(image) for image in range(images)]
    rewards = Rewards(captions_of(ids, truth), vocabulary_of(len(SPECIALS) + len(table)), Weights(1.0))
    strings = [texts(of_image) for of_image in truth], [texts(of_image) for of_image in said]
    off = float(np.abs(their_rewards(*strings) - rewards(ids, said)).max())
    require(off < CLOSE, f"rewards by {off:.1e}")
    timing = alternate(lambda: their_rewards(*strings), lambda: rewards(ids, said), args.rounds)
    detail = f"{seconds(timing.plain)} and {seconds(timing.ours)}; within {off:.0e}"
    what = f"{images * CAPTIONS:,} captions of {images:,} images, 5 references"
    return Result("rewards of sampled captions", timing.ratio, TARGETS["rewards"], what, threads(), detail)


def results(args: argparse.Namespace) -> Iterator[Result]:
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        sys.exit("the reference scorer is not installed; pip install 'pycocoevalcap>=1.2,<2' and run this again")
    yield update(args)
    yield many(args)


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
