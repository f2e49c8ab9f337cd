"""A model as two functions of tensors, and their `torch.export` programs.

`encoder`: from an image to the decoder's start state. `step`: one decoding step for every beam of that image. Neither
keeps state between calls; their inputs and outputs have names (`Names`).
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from showtell.core.errors import UserError
from showtell.core.terminal import one_line
from showtell.data.transform import Transform
from showtell.data.vocabulary import END, UNK
from showtell.decoders import Decoder, State
from showtell.encoders.network import Encoder
from showtell.generation.decoding import never_generated
from showtell.generation.model import Model
from showtell.generation.rules import rules_of
from showtell.generation.search_params import SearchParams

# Numbers of beams, previous beams and words that a step is traced with; these dimensions are dynamic.
BEAMS, BEFORE, SAID = 4, 5, 2
PICTURE = (97, 131, 3)  # height, width, channels for tracing; height and width are dynamic


class Names(NamedTuple):
    """Names of the encoder's outputs, which are inputs of `step`, in this order: those `fixed` for an image, the
    `state`.

    `step` returns `logprobs` and the next state, in the order of `state`.
    """

    fixed: list[str]
    state: list[str]

    @property
    def all(self) -> list[str]:
        return self.fixed + self.state

    @property
    def step_inputs(self) -> list[str]:
        return ["tokens", "parents", *self.all]

    @property
    def step_outputs(self) -> list[str]:
        return ["logprobs", *(f"next_{name}" for name in self.state)]


class Layout(NamedTuple):
    """How a decoder's state is laid out among input and output tensors."""

    images: int  # tensors in `State.image`
    growing: tuple[int, ...]  # indices of those that a step changes
    beams: int  # tensors in `State.beam`

    def flat(self, state: State) -> tuple[Tensor, ...]:
        """The tensors of a state: fixed ones, then those that change."""
        fixed = [x for number, x in enumerate(state.image) if number not in self.growing]
        return (*fixed, *self.changing(state))

    def changing(self, state: State) -> tuple[Tensor, ...]:
        return (*(state.image[number] for number in self.growing), *state.beam)

    def state(self, tensors: Sequence[Tensor]) -> State:
        """The state, from the output of `flat`."""
        rest = list(tensors)
        fixed = [rest.pop(0) for _ in range(self.images - len(self.growing))]
        image = tuple(rest.pop(0) if number in self.growing else fixed.pop(0) for number in range(self.images))
        return State(image, tuple(rest))

    def names(self) -> Names:
        fixed = self.images - len(self.growing)
        changing = len(self.growing) + self.beams
        return Names([f"fixed_{n}" for n in range(fixed)], [f"state_{n}" for n in range(changing)])


class SquareEncoder(nn.Module):
    """An image of the transform's size, uint8 (1, 3, height, width) -> the tensors that `Names` names."""

    def __init__(self, encoder: Encoder, decoder: Decoder, layout: Layout):
        super().__init__()
        self.encoder, self.decoder, self.layout = encoder, decoder, layout

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.layout.flat(self.decoder.start(self.encoder(image)))


class PictureEncoder(nn.Module):
    """A picture of any size, uint8 (height, width, 3), 0-255, RGB -> as `SquareEncoder`."""

    def __init__(self, encoder: SquareEncoder, transform: Transform):
        super().__init__()
        self.encoder, self.transform = encoder, transform

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if self.transform.fit == "crop":
            height, width, _ = pixels.shape
            side = torch.sym_min(height, width)
            pixels = pixels.narrow(0, (height - side) // 2, side).narrow(1, (width - side) // 2, side)
        size = (self.transform.size, self.transform.size)
        image = pixels.permute(2, 0, 1).unsqueeze(0)  # (1, 3, height, width)
        return self.encoder(nn.functional.interpolate(image, size=size, mode=self.transform.filter, antialias=True))


class WordStep(nn.Module):
    """`tokens` and `parents` (1, beam), the fixed tensors, and the state of the previous beams -> `logprobs`, next
    state.

    `parents`: the previous beam that each beam continues. At first `tokens` is `<start>` and `parents` 0. `logprobs`
    (1, beam, word), natural log, of the next word; -inf for words that are never generated.
    """

    def __init__(self, decoder: Decoder, search: SearchParams, layout: Layout):
        super().__init__()
        self.decoder, self.layout = decoder, layout
        # those rules need the earlier tokens, and are applied in the loop
        self.search = search.override(block_ngrams=0, min_length=1)
        self.never = never_generated(search.allow_unknown)

    def forward(self, tokens: Tensor, parents: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        scores, state = self.decoder.step(self.layout.state(tensors).select(parents), tokens)
        for rule in rules_of(self.search, END, self.never):
            scores = rule(scores, tokens.unsqueeze(2))
        return (scores, *self.layout.changing(state))


class Functions(NamedTuple):
    """A model as functions of tensors, with example inputs for tracing."""

    encoder: SquareEncoder
    step: WordStep
    names: Names
    image: Tensor  # example input of the encoder
    step_inputs: tuple[Tensor, ...]
    open_sizes: tuple[tuple[int, ...], ...]  # dynamic dimensions of each input of the step


@torch.no_grad()
def functions_of(model: Model, search: SearchParams) -> Functions:
    """The functions of a model on the processor. Dynamic sizes are found by running them."""
    image = torch.full((1, 3, model.transform.size, model.transform.size), 128, dtype=torch.uint8)
    decoder = model.speaking(search.detection_weight)
    first = decoder.start(model.encoder(image))
    after = _after(decoder, first, BEFORE, SAID)
    growing = tuple(n for n, (a, b) in enumerate(zip(first.image, after.image, strict=True)) if a.shape != b.shape)
    layout = Layout(len(first.image), growing, len(first.beam))
    tensors = layout.flat(after)
    others = layout.flat(_after(decoder, first, BEFORE + 1, SAID + 1))
    sizes = [tuple(d for d, n in enumerate(a.shape) if n != b.shape[d]) for a, b in zip(tensors, others, strict=True)]
    tokens, parents = torch.full((1, BEAMS), UNK), torch.arange(BEAMS).unsqueeze(0)
    step = WordStep(decoder, search, layout).eval()
    inputs = (tokens, parents, *(x.clone() for x in tensors))
    encoder = SquareEncoder(model.encoder, decoder, layout).eval()
    return Functions(encoder, step, layout.names(), image, inputs, ((1,), (1,), *sizes))


def _after(decoder: Decoder, state: State, beams: int, words: int) -> State:
    """The state after `words` steps with `beams` beams."""
    tokens = torch.full((1, beams), UNK)
    state = state.select(torch.zeros_like(tokens))
    for _ in range(words):
        state = decoder.step(state, tokens)[1]
    return state


class Programs(NamedTuple):
    """`torch.export` programs of the functions."""

    encoder: ExportedProgram
    step: ExportedProgram


def square_programs(functions: Functions) -> Programs:
    """Programs whose encoder takes images of the transform's size."""
    return Programs(_traced(functions.encoder, (functions.image,), None), _step_program(functions))


def picture_programs(functions: Functions, transform: Transform) -> Programs:
    """Programs whose encoder takes images of any size."""
    encoder = PictureEncoder(functions.encoder, transform).eval()
    pixels = torch.full(PICTURE, 128, dtype=torch.uint8)
    sizes = {"pixels": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}}
    return Programs(_traced(encoder, (pixels,), sizes), _step_program(functions))


def _step_program(functions: Functions) -> ExportedProgram:
    tokens, parents, *others = (dict.fromkeys(sizes, Dim.DYNAMIC) for sizes in functions.open_sizes)
    sizes = {"tokens": tokens, "parents": parents, "tensors": tuple(others)}
    return _traced(functions.step, functions.step_inputs, sizes)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], sizes: dict | None) -> ExportedProgram:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own deprecation warnings
        try:
            return torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
        except (RuntimeError, NotImplementedError, AssertionError, TypeError, ValueError) as error:
            raise UserError(f"torch.export cannot trace this model: {one_line(error, 300)}") from None
