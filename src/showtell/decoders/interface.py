"""The interface of every decoder, which training, search, reports and serving use.

Shapes: an image has several captions (training) or several beams (search); both are the second dimension.
tokens, inputs (image, caption, step) ints; mask the same shape, True where an input is real, in processor memory;
logits (..., word) before softmax; attention (image, caption, step, cell), each step summing to 1 over cells.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.decoder_params import DecoderParams


class State(NamedTuple):
    """The recurrent state between steps, split so that search can reorder beams.

    It holds no weights: those belong to the module, and would become inputs of an exported graph.
    """

    image: tuple[Tensor, ...]  # each (image, ...): shared by all captions of an image
    beam: tuple[Tensor, ...]  # each (image, caption, ...): one row for each caption or beam

    def select(self, beams: Tensor) -> "State":
        """For each image select these beams, in this order, with repetitions. `beams` (image, kept) ints."""
        rows = [x.flatten(2) if x.dim() > 2 else x.unsqueeze(2) for x in self.beam]  # (image, beam, anything)
        picked = [x.gather(1, beams.unsqueeze(2).expand(-1, -1, x.shape[2])) for x in rows]
        shapes = [(*beams.shape, *x.shape[2:]) for x in self.beam]
        beam = tuple(x.reshape(shape) for x, shape in zip(picked, shapes, strict=True))
        return self._replace(beam=beam)

    def keep_images(self, images: Tensor) -> "State":
        """Select these images (indices)."""
        return self._replace(image=tuple(x[images] for x in self.image), beam=tuple(x[images] for x in self.beam))

    def repeat(self, captions: int) -> "State":
        """A state for `captions` captions of each image, from a state for one."""
        return self._replace(beam=tuple(x.expand(-1, captions, *x.shape[2:]) for x in self.beam))


DecoderStep = Callable[[State, Tensor], tuple[Tensor, State]]


class Decoded(NamedTuple):
    """The result of teacher forcing."""

    logits: Tensor  # (real position, word): the positions where `mask` is True, in its order
    attention: Tensor | None  # (image, caption, step, cell); None for decoders that do not attend
    # targets (real position,) -> an additional loss, summed over real positions; None: no such loss
    extra_loss: Callable[[Tensor], Tensor] | None = None


class Decoder(nn.Module):
    """Features in, logits out. A new decoder defines `start`, `step` and `forward`.

    `Decoder(params, channels, words)`: features have `channels` channels, the vocabulary has `words` words.
    """

    Params: type[DecoderParams] = DecoderParams  # the keys that it reads in the section `decoder` of params.yaml
    attends: bool = False  # whether `forward` gives an attention, which is then drawn
    heads: int = 1  # of that attention

    def start(self, features: Tensor) -> State:
        """The state before the first word, with one beam for each image."""
        raise NotImplementedError

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        """One step. `tokens` (image, beam) -> logits (image, beam, word) of the next word, and the new state."""
        raise NotImplementedError

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        """Teacher forcing: the logits after each real input, equal to those of single calls of `step`."""
        raise NotImplementedError

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> Tensor | None:
        """The attention of `forward`, without the vocabulary layer where the decoder can leave that out.

        `head`: the attention of this head, from 0, instead of the mean over `heads`.
        """
        return self(features, inputs, mask).attention

    def steps(self) -> DecoderStep:
        """`step` for many steps with fixed weights: what depends on the weights alone is computed once."""
        return self.step

    def without_decay(self) -> Iterable[nn.Parameter]:
        """The parameters without weight decay."""
        return ()


def active_corner(mask: Tensor) -> list[tuple[int, int]]:
    """For each step the number of leading images and captions that contain all real positions of that step.

    Batches are sorted with long captions first, so that later steps are computed for few captions. Another order is
    slower and gives the same result.
    """
    corners = []
    for step in range(mask.shape[2]):
        rows, columns = mask[:, :, step].any(1).nonzero(), mask[:, :, step].any(0).nonzero()
        corners.append((int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else (0, 0))
    return corners


def at_real_positions(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of `x` (image, caption, step, ...) where `mask` is True, in its order: (real position, ...).

    Selected by index: the gradient of selecting by mask takes ten times as long.
    """
    return x.flatten(0, 2).index_select(0, real_positions(mask, x.device))


def real_positions(mask: Tensor, device: torch.device) -> Tensor:
    """The flat indices of the positions where `mask` (image, caption, step) is True, on `device`."""
    return mask.flatten().nonzero().squeeze(1).to(device, non_blocking=True)


def pad_corner(x: Tensor, images: int, captions: int) -> Tensor:
    """Pad `x` (some images, some captions, ...) with zeros to `images` images and `captions` captions."""
    return functional.pad(x, (0, 0, 0, captions - x.shape[1], 0, images - x.shape[0]))
