"""The section `decoder` of params.yaml."""

from typing import Literal

from pydantic import Field

from showtell.params import Section


class DecoderParams(Section):
    """The network that turns features into words."""

    kind: Literal["attention"] = Field(description="which decoder")
    embedding: int = Field(ge=1, description="size of a word's vector")
    hidden: int = Field(ge=1, description="size of the LSTM's state")
    attention: int = Field(ge=1, description="hidden size of the attention")
    dropout: float = Field(ge=0, lt=1, description="share of the vocabulary layer's inputs left out in training")
    normalise_grid: bool = Field(description="layer norm on each cell of the grid")
    initial_tanh: bool = Field(description="tanh on the initial state")
    context_output: bool = Field(description="words from hidden state and context, not from hidden state alone")
