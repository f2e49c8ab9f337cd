"""Word embeddings and the vocabulary layer, which computes the logits of all words."""

from typing import Any

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from showtell.core.params import PathName
from showtell.decoders.decoder_params import DecoderParams

VECTORLESS = {"embeddings": None, "train_embeddings": True, "tied": False}  # required values for one-hot words

# Bound of the uniform distribution that initialises word vectors and the vocabulary layer, as in the tutorials.
INITIAL_RANGE = 0.1


class WordParams(DecoderParams):
    """Keys of word embeddings and the vocabulary layer."""

    embedding: int | None = Field(ge=1, le=65_536, examples=[512], description="size of a word's vector; null: one-hot")
    embeddings: PathName | None = Field(description="word vectors (GloVe, word2vec) to begin with; null: none")
    train_embeddings: bool = Field(description="false: the words' vectors stay as they are", examples=[True])
    hidden: int = Field(ge=1, le=65_536, description="size of the state that words are told from", examples=[512])
    tied: bool = Field(
        description="the vocabulary layer's weights are the words' vectors; needs embedding = hidden", examples=[False]
    )
    dropout: float = Field(
        ge=0, lt=1, description="share of the vocabulary layer's inputs left out in training", examples=[0.5]
    )

    @field_validator("embeddings", "train_embeddings", "tied")
    @classmethod
    def _fits_words(cls, value: Any, info: ValidationInfo) -> Any:
        size, hidden = info.data.get("embedding"), info.data.get("hidden")
        if "embedding" in info.data and size is None and value is not VECTORLESS[info.field_name or ""]:
            raise PydanticCustomError("one_hot", "words that enter one-hot (decoder.embedding null) have no vectors")
        if info.field_name == "tied" and value and size != hidden:
            raise PydanticCustomError("tied", f"needs decoder.embedding = decoder.hidden, not {size} and {hidden}")
        return value


class OneHot(nn.Module):
    """Tokens (...) -> one-hot vectors (..., word); nothing is learned."""

    def __init__(self, words: int):
        super().__init__()
        self.embedding_dim = words

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.one_hot(tokens, self.embedding_dim).float()


class TiedOutput(nn.Module):
    """Logits of all words: hidden (..., hidden) -> (..., word), with the word embeddings as weights.

    Press and Wolf, "Using the Output Embedding to Improve Language Models" (EACL 2017).
    """

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self._embedding = [embedding]  # in a list, so that its weights appear once in the state dict
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self._embedding[0].weight, self.bias)


def build_embedding(params: WordParams, words: int) -> nn.Embedding | OneHot:
    """Word embeddings with random initial values; `learning/word_vectors.py` loads vectors from a file."""
    if params.embedding is None:
        return OneHot(words)
    embedding = nn.Embedding(words, params.embedding)
    nn.init.uniform_(embedding.weight, -INITIAL_RANGE, INITIAL_RANGE)
    embedding.weight.requires_grad_(params.train_embeddings)
    return embedding


def build_output(params: WordParams, embedding: nn.Embedding | OneHot, words: int) -> nn.Module:
    """The vocabulary layer, with weights of its own or the word embeddings."""
    if params.tied:
        assert isinstance(embedding, nn.Embedding)  # checked by WordParams
        return TiedOutput(embedding)
    output = nn.Linear(params.hidden, words)
    nn.init.uniform_(output.weight, -INITIAL_RANGE, INITIAL_RANGE)
    nn.init.zeros_(output.bias)
    return output
