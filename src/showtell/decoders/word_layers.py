"""Where words go in and come out: vectors of tokens, and the layer that scores every word of the vocabulary."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.settings import DecoderParams

# Half the width of the uniform distribution that word vectors and the vocabulary layer are drawn from: the tutorials'.
INITIAL_RANGE = 0.1


class OneHot(nn.Module):
    """Tokens (...) -> vectors (..., word) that are 1 for the word and 0 elsewhere; nothing to learn."""

    def __init__(self, words: int):
        super().__init__()
        self.embedding_dim = words

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.one_hot(tokens, self.embedding_dim).float()


class TiedOutput(nn.Module):
    """Scores of all words: hidden (..., hidden) -> logits (..., word), with the words' own vectors as weights.

    Press and Wolf, "Using the Output Embedding to Improve Language Models" (EACL 2017).
    """

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self._embedding = [embedding]  # in a list, so that its weights appear once in the state dict
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self._embedding[0].weight, self.bias)


def build_embedding(params: DecoderParams, words: int) -> nn.Embedding | OneHot:
    """Word vectors, drawn at random; `embeddings.py` loads those of a file."""
    if params.embedding is None:
        return OneHot(words)
    embedding = nn.Embedding(words, params.embedding)
    nn.init.uniform_(embedding.weight, -INITIAL_RANGE, INITIAL_RANGE)
    embedding.weight.requires_grad_(params.train_embeddings)
    return embedding


def build_output(params: DecoderParams, embedding: nn.Embedding | OneHot, words: int) -> nn.Module:
    """The vocabulary layer, its own weights or the words' vectors."""
    if params.tied:
        return TiedOutput(embedding)
    output = nn.Linear(params.hidden, words)
    nn.init.uniform_(output.weight, -INITIAL_RANGE, INITIAL_RANGE)
    nn.init.zeros_(output.bias)
    return output
