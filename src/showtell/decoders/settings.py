"""The section `decoder` of params.yaml: one flat list, some keys read by some kinds of decoder only."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from showtell.core.params import Section

Kind = Literal["attention", "pre_inject", "init_inject"]

# What a key must be where its kind of decoder has no use for it: a value that does nothing would mislead its reader.
UNUSED = {
    "attention": {"image_projection": None},
    "pre_inject": {
        "attention": None, "grid": None, "normalise_grid": False, "initial_tanh": False, "context_output": False,
    },
    "init_inject": {"attention": None, "grid": None, "normalise_grid": False, "context_output": False},
}  # fmt: skip
VECTORLESS = {"embeddings": None, "train_embeddings": True, "tied": False}  # the same where words enter one-hot
NEEDED = {"attention": "attention", "pre_inject": "image_projection", "init_inject": "image_projection"}


class DecoderParams(Section):
    """The network that turns features into words."""

    kind: Kind = Field(description="how the image enters: at every step | as the first input | as the initial state")
    cell: Literal["lstm", "gru"] = Field(description="recurrent cell")
    layers: int = Field(ge=1, le=8, description="recurrent layers, one on top of the other")
    embedding: int | None = Field(ge=1, description="size of a word's vector; null: words enter one-hot")
    embeddings: str | None = Field(description="text file of word vectors (GloVe, word2vec) to begin with; null: none")
    train_embeddings: bool = Field(description="false: the words' vectors stay as they are")
    hidden: int = Field(ge=1, description="size of the recurrent state")
    tied: bool = Field(description="the vocabulary layer's weights are the words' vectors; needs embedding = hidden")
    dropout: float = Field(ge=0, lt=1, description="share of the vocabulary layer's inputs left out in training")
    attention: int | None = Field(ge=1, description="attention: hidden size of the attention; null otherwise")
    grid: int | None = Field(
        ge=1, le=64, description="attention: rows of the grid attended to; null: the encoder's own"
    )
    normalise_grid: bool = Field(description="attention: layer norm on each cell of the grid")
    initial_tanh: bool = Field(description="attention, init_inject: tanh on the initial state")
    context_output: bool = Field(description="attention: words from hidden state and context, not hidden state alone")
    image_projection: Literal["linear", "batch_norm", "prelu"] | None = Field(
        description="pre_inject, init_inject: how the image's vector gets its size; null otherwise"
    )

    @field_validator("*")
    @classmethod
    def _fits_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind, key = info.data.get("kind"), info.field_name
        unused = UNUSED.get(kind, {})
        if key in unused and value != unused[key]:
            shown = "null" if unused[key] is None else "false"
            raise PydanticCustomError("unused", f"it does nothing with decoder.kind {kind}; set it to {shown}")
        if value is None and NEEDED.get(kind) == key:
            raise PydanticCustomError("needed", f"decoder.kind {kind} needs it")
        return value

    @field_validator("embeddings", "train_embeddings", "tied")
    @classmethod
    def _fits_words(cls, value: Any, info: ValidationInfo) -> Any:
        size, hidden = info.data.get("embedding"), info.data.get("hidden")
        if "embedding" in info.data and size is None and value is not VECTORLESS[info.field_name]:
            raise PydanticCustomError("one_hot", "words that enter one-hot (decoder.embedding null) have no vectors")
        if info.field_name == "tied" and value and size != hidden:
            raise PydanticCustomError("tied", f"needs decoder.embedding = decoder.hidden, not {size} and {hidden}")
        return value
