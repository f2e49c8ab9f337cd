"""What every decoder offers: training, search, reports and serving use this and nothing else.

Shapes: an image has several captions (training) or several beams (search); both are the second dimension.
tokens, inputs (image, caption, step) ints; mask the same shape, True where an input is real, in processor memory;
logits (..., word) before softmax; attention (image, caption, step, cell), each step summing to 1 over cells.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.settings import DecoderParams


class State(NamedTuple):
    """What a decoder carries from step to step, split by what it belongs to so that search can reorder it.

    No weights: those are the module's, and would become inputs of an exported graph.
    """

    image: tuple[Tensor, ...]  # each (image, ...): shared by all captions of an image
    beam: tuple[Tensor, ...]  # each (image, caption, ...): one for every caption or beam

    def select(self, beams: Tensor) -> "State":
        """For each image keep these beams, in this order (they may repeat). `beams` (image, kept) ints."""
        rows = [x.flatten(2) if x.dim() > 2 else x.unsqueeze(2) for x in self.beam]  # (image, beam, anything)
        picked = [x.gather(1, beams.unsqueeze(2).expand(-1, -1, x.shape[2])) for x in rows]
        shapes = [(*beams.shape, *x.shape[2:]) for x in self.beam]
        beam = tuple(x.reshape(shape) for x, shape in zip(picked, shapes, strict=True))
        return self._replace(beam=beam)

    def keep_images(self, images: Tensor) -> "State":
        """Only these images (indices)."""
        return self._replace(image=tuple(x[images] for x in self.image), beam=tuple(x[images] for x in self.beam))

    def repeat(self, captions: int) -> "State":
        """For so many captions of an image, from a state for one."""
        return self._replace(beam=tuple(x.expand(-1, captions, *x.shape[2:]) for x in self.beam))


DecoderStep = Callable[[State, Tensor], tuple[Tensor, State]]


class Decoded(NamedTuple):
    """What teacher forcing gives."""

    logits: Tensor  # (real position, word): the positions where `mask` is True, in its order
    attention: Tensor | None  # (image, caption, step, cell); None for decoders that do not attend
    # targets (real position,) -> what training minimises besides, a sum over real positions; None: nothing
    extra_loss: Callable[[Tensor], Tensor] | None = None


class Decoder(nn.Module):
    """Features in, words out. `start`, `step` and `forward` are what a new decoder must have.

    `Decoder(params, channels, words)`: for features of `channels` channels and a vocabulary of `words`.
    """

    Params: type[DecoderParams] = DecoderParams  # the keys of params.yaml's section `decoder` that it reads
    heads: int = 1  # of the attention that `attend` gives

    def start(self, features: Tensor) -> State:
        """The state before the first word, one beam for each image."""
        raise NotImplementedError

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        """One word on. `tokens` (image, beam) -> logits (image, beam, word) of the next word, and the new state."""
        raise NotImplementedError

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        """Teacher forcing: the logits after each real input, as `step` would give them one by one."""
        raise NotImplementedError

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> Tensor | None:
        """The attention of `forward` alone: a decoder that attends can spare itself the vocabulary layer here.

        `head`: that of one of `heads`, from 0, in place of their mean.
        """
        return self(features, inputs, mask).attention

    def steps(self) -> DecoderStep:
        """`step` for many steps with the weights as they are now: what depends on them alone is computed once."""
        return self.step

    def without_decay(self) -> Iterable[nn.Parameter]:
        """The parameters that weight decay leaves alone."""
        return ()


def active_corner(mask: Tensor) -> list[tuple[int, int]]:
    """For each step how many images and captions, counted from the first, hold every real position of that step.

    Batches put long captions first, so that later steps are computed for few of them; any other order costs time but
    changes nothing.
    """
    corners = []
    for step in range(mask.shape[2]):
        rows, columns = mask[:, :, step].any(1).nonzero(), mask[:, :, step].any(0).nonzero()
        corners.append((int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else (0, 0))
    return corners


def at_real_positions(x: Tensor, mask: Tensor) -> Tensor:
    """Of `x` (image, caption, step, ...) the rows where `mask` is True, in its order: (real position, ...).

    Picked by number: the gradient of picking by mask takes ten times as long.
    """
    return x.flatten(0, 2).index_select(0, real_positions(mask, x.device))


def real_positions(mask: Tensor, device: torch.device) -> Tensor:
    """The numbers of the positions where `mask` (image, caption, step) is True, counted row by row, on `device`."""
    return mask.flatten().nonzero().squeeze(1).to(device, non_blocking=True)


def pad_corner(x: Tensor, images: int, captions: int) -> Tensor:
    """Zeros around `x` (some images, some captions, anything), up to so many images and captions."""
    return functional.pad(x, (0, 0, 0, captions - x.shape[1], 0, images - x.shape[0]))
