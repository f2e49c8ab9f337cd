"""The plain side of the transformer: PyTorch's own `nn.TransformerDecoder`, as its tutorials caption with it.

The grid is projected for every caption, a batch is padded to its longest caption, and generation computes the whole
prefix again for every word. The code is not slowed down: causal attention is PyTorch's fused kernel, and generation
scores the vocabulary at the last word only. There is no key padding mask: padding comes last, so causal attention never
reaches it from a real word, and the mask would only add work.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.data.vocabulary import PAD
from showtell.decoders.transformer import TransformerDecoder


class PlainTransformer(nn.Module):
    """A pre-norm decoder over the grid of each caption."""

    def __init__(self, decoder: TransformerDecoder):
        """Copies `decoder`'s weights; it must have no layers over the grid and no grid norm."""
        super().__init__()
        hidden, heads, first = decoder.hidden, decoder.heads, decoder.layers[0]
        layer = nn.TransformerDecoderLayer(
            hidden, heads, first.feed_forward[1].out_features, dropout=0.0, batch_first=True, norm_first=True
        )
        self.hidden, self.positions = hidden, decoder.positions
        self.embedding = nn.Embedding(*decoder.embedding.weight.shape)
        self.grid_input = nn.Linear(decoder.grid_input.in_features, hidden)
        self.decoder = nn.TransformerDecoder(layer, len(decoder.layers), norm=nn.LayerNorm(hidden))
        self.output = nn.Linear(hidden, decoder.output.out_features)
        self.load_state_dict(plain_names(decoder.state_dict(), len(decoder.layers)))

    def memory(self, grid: Tensor) -> Tensor:
        """(row, cell, channel) -> (row, cell, hidden)."""
        return self.grid_input(grid)

    def hidden_states(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """memory (row, cell, hidden), tokens (row, step) -> (row, step, hidden)."""
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        words = self.embedding(tokens) * self.hidden**0.5 + self.positions(steps)
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.decoder(words, memory, tgt_mask=causal, tgt_is_causal=True)


def plain_names(ours: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Weights or gradients of our decoder, by the names of PyTorch's layers."""
    pairs = {
        "word_norm": "norm1", "grid_norm": "norm2", "feed_forward.0": "norm3", "feed_forward.1": "linear1",
        "feed_forward.4": "linear2", "word_output": "self_attn.out_proj", "grid_output": "multihead_attn.out_proj",
    }  # fmt: skip
    kinds = "weight", "bias"
    named = {f"{name}.{kind}": ours[f"{name}.{kind}"] for name in ("grid_input", "output") for kind in kinds}
    named["embedding.weight"] = ours["embedding.weight"]
    for kind in kinds:
        named[f"decoder.norm.{kind}"] = ours[f"output_norm.{kind}"]
        for n in range(layers):
            mine, theirs = f"layers.{n}.", f"decoder.layers.{n}."
            named |= {f"{theirs}{b}.{kind}": ours[f"{mine}{a}.{kind}"] for a, b in pairs.items()}
            named[f"{theirs}self_attn.in_proj_{kind}"] = ours[f"{mine}word_query_key_value.{kind}"]
            looks = ours[f"{mine}grid_query.{kind}"], ours[f"{mine}grid_key_value.{kind}"]
            named[f"{theirs}multihead_attn.in_proj_{kind}"] = torch.cat(looks)
    return named


def train_step(model: PlainTransformer, optimizer: torch.optim.Optimizer, grid: Tensor, captions: Tensor) -> float:
    """One update, gradients clipped at 5; its loss. grid (caption, cell, channel), captions (caption, token)."""
    logits = model.output(model.hidden_states(model.memory(grid), captions[:, :-1]))  # (caption, step, word)
    loss = functional.cross_entropy(logits.flatten(0, 1), captions[:, 1:].flatten(), ignore_index=PAD)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()


class Prefix(NamedTuple):
    """The state of a search without a cache: the tokens of every beam, and its copy of the projected grid."""

    memory: Tensor  # (image, cell, hidden)
    tokens: Tensor  # (image, beam, step)

    def select(self, beams: Tensor) -> "Prefix":
        return self._replace(tokens=self.tokens.gather(1, beams.unsqueeze(2).expand(-1, -1, self.tokens.shape[2])))

    def keep_images(self, images: Tensor) -> "Prefix":
        return Prefix(self.memory[images], self.tokens[images])


def start(model: PlainTransformer, grid: Tensor) -> Prefix:
    return Prefix(model.memory(grid), torch.zeros(len(grid), 1, 0, dtype=torch.long, device=grid.device))


def step(model: PlainTransformer, state: Prefix, tokens: Tensor) -> tuple[Tensor, Prefix]:
    """Compute the whole prefix again: tokens (image, beam) -> logits (image, beam, word)."""
    prefix = torch.cat([state.tokens, tokens.unsqueeze(2)], dim=2)
    memory = state.memory.repeat_interleave(tokens.shape[1], dim=0)  # (image x beam, cell, hidden)
    last = model.hidden_states(memory, prefix.flatten(0, 1))[:, -1]
    return model.output(last).unflatten(0, tokens.shape), state._replace(tokens=prefix)
