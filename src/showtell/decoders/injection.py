"""Show and tell and its variants: a recurrent language model that gets the image once, at the beginning.

`pre_inject`: the image is the first input, before `<start>`. Vinyals et al., "Show and Tell" (CVPR 2015), section 3.1.
`init_inject`: the image is the initial state. The names are Tanti et al.'s, "Where to put the Image in an Image Caption
Generator" (Natural Language Engineering 2018), section 2. Shapes as in `interface.py`.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.cells import RecurrentParams
from showtell.decoders.interface import Decoded, Decoder, State, at_real_positions
from showtell.decoders.word_layers import build_embedding, build_output

# Momentum of the running statistics of the image's batch norm, as in the resnet152 tutorial.
IMAGE_NORM_MOMENTUM = 0.01


class InjectionParams(RecurrentParams):
    """Keys of `decoder.kind: pre_inject`, which `init_inject` reads as well."""

    image_projection: Literal["linear", "batch_norm", "prelu"] = Field(
        description="how the image's vector gets its size", examples=["linear"]
    )


class InitInjectParams(InjectionParams):
    """`decoder.kind: init_inject`."""

    initial_tanh: bool = Field(description="tanh on the initial state", examples=[True])


class ImageNorm(nn.BatchNorm1d):
    """Batch norm over images (image, channel). A batch of one image is normalised by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def image_projection(kind: str, channels: int, size: int, dropout: float) -> nn.Module:
    """(image, channel) -> (image, size): the layers that turn the image's vector into an input or a state."""
    if kind == "prelu":
        return nn.Sequential(nn.Linear(channels, size), nn.PReLU(), nn.Dropout(dropout), nn.Linear(size, size))
    if kind == "batch_norm":
        return nn.Sequential(nn.Linear(channels, size), ImageNorm(size, momentum=IMAGE_NORM_MOMENTUM))
    return nn.Linear(channels, size)


class InjectionDecoder(Decoder):
    """LSTM or GRU over words; subclasses define in `_begin` how the image enters. A grid is replaced by its mean."""

    Params: type[InjectionParams] = InjectionParams

    def __init__(self, params: InjectionParams, channels: int, words: int):
        super().__init__()
        self.embedding = build_embedding(params, words)
        self.project = image_projection(params.image_projection, channels, self._image_size(params), params.dropout)
        between = params.dropout if params.layers > 1 else 0.0
        network = {"lstm": nn.LSTM, "gru": nn.GRU}[params.cell]
        self.network = network(
            self.embedding.embedding_dim, params.hidden, params.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(params.dropout)
        self.output = build_output(params, self.embedding, words)

    def _image_size(self, params: InjectionParams) -> int:
        raise NotImplementedError

    def _begin(self, image: Tensor) -> tuple[Tensor, ...]:
        """The state before `<start>`, from the projected image (image, size): each (layer, image, hidden)."""
        raise NotImplementedError

    def start(self, features: Tensor) -> State:
        vector = features.mean(dim=1) if features.dim() == 3 else features  # (image, channel)
        state = self._begin(self.project(vector))
        return State(image=(), beam=tuple(x.transpose(0, 1).unsqueeze(1) for x in state))  # (image, 1, layer, hidden)

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        hidden, beam = self._run(state.beam, tokens.unsqueeze(2))
        return self.output(self.dropout(hidden[:, :, 0])), State((), beam)  # (image, beam, word)

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        beam = self.start(features).repeat(inputs.shape[1]).beam
        hidden, _ = self._run(beam, inputs)  # (image, caption, step, hidden)
        return Decoded(self.output(self.dropout(at_real_positions(hidden, mask))), None)  # (real position, word)

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> None:
        """None: these decoders have no attention."""

    def _run(self, beam: tuple[Tensor, ...], tokens: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run over tokens (image, caption, step): the top layer's outputs (image, caption, step, hidden), and the
        state."""
        images, captions, steps = tokens.shape
        words = self.embedding(tokens.flatten(0, 1))  # (image x caption, step, embedding)
        before = [x.flatten(0, 1).transpose(0, 1).contiguous() for x in beam]  # (layer, image x caption, hidden)
        hidden, after = self._network(words, before)
        folded = tuple(x.transpose(0, 1).unflatten(0, (images, captions)) for x in after)
        return hidden.view(images, captions, steps, -1), folded

    def _network(self, inputs: Tensor, state: list[Tensor] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs (row, step, hidden) and state, each (layer, row, hidden), for LSTM and GRU alike."""
        if isinstance(self.network, nn.GRU):
            outputs, hidden = self.network(inputs, state[0] if state else None)
            return outputs, (hidden,)
        return self.network(inputs, tuple(state) if state else None)


class PreInjectDecoder(InjectionDecoder):
    """The image is the first input; it is processed once, whatever the number of captions."""

    def _image_size(self, params: InjectionParams) -> int:
        return self.embedding.embedding_dim

    def _begin(self, image: Tensor) -> tuple[Tensor, ...]:
        return self._network(image.unsqueeze(1), None)[1]


class InitInjectDecoder(InjectionDecoder):
    """The image is the initial hidden state (and cell state) of every layer."""

    Params = InitInjectParams

    def __init__(self, params: InitInjectParams, channels: int, words: int):
        super().__init__(params, channels, words)
        self.activation = nn.Tanh() if params.initial_tanh else nn.Identity()

    def _image_size(self, params: InjectionParams) -> int:
        return params.hidden

    def _begin(self, image: Tensor) -> tuple[Tensor, ...]:
        state = self.activation(image).expand(self.network.num_layers, -1, -1)  # (layer, image, hidden)
        return (state,) if isinstance(self.network, nn.GRU) else (state, state)
