"""The plain side: show, attend and tell as its step-by-step PyTorch tutorials compute it, from the formulas.

Xu et al. (2015), soft attention. For every caption its image is encoded again, in fp32, and its last map pooled to
14 x 14. The decoder sorts captions by length and, at every step, projects the whole grid of every caption that
has not ended, attends, steps the cell and scores the vocabulary. Generation takes one image at a time, with its grid
copied for each beam. The code is neither tuned nor slowed down: the grid is contiguous, metrics are not computed.

Weights have the names of the package's encoders and decoder, so that both sides use the same weights.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from showtell.data.vocabulary import END, START
from showtell.decoders.attention import AttentionDecoder
from showtell.encoders.network import Encoder

LEARNING_BLOCKS = 5  # children of a ResNet; stem and layer1 are frozen in fine-tuning


class PlainEncoder(nn.Module):
    """A torchvision ResNet as constructed, up to its last map, pooled to rows x rows cells."""

    def __init__(self, encoder: Encoder, rows: int):
        super().__init__()
        network = torchvision.models.get_model(encoder.name, weights=None)
        network.load_state_dict(encoder.backbone.network.state_dict(), strict=False)  # all but the classifier
        self.backbone = nn.Sequential(OrderedDict(list(network.named_children())[:-2]))
        self.pool = nn.AdaptiveAvgPool2d(rows)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(encoder.config[name]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (caption, 3, height, width) -> float32 (caption, cell, channel)."""
        x = (pictures / 255 - self.mean) / self.std
        grid = self.pool(self.backbone(x))  # (caption, channel, row, column)
        return grid.permute(0, 2, 3, 1).flatten(1, 2).contiguous()

    def fine_tune(self) -> "PlainEncoder":
        """Layers after layer1 are trained, with batch statistics. Earlier ones are frozen, with their batch norms."""
        self.backbone[LEARNING_BLOCKS:].requires_grad_(True).train()
        return self


class PlainDecoder(nn.Module):
    """LSTM over [word, gated context], step by step."""

    def __init__(self, decoder: AttentionDecoder):
        """Copies `decoder`'s weights. It must be the published form: no grid norm, no context output."""
        super().__init__()
        words, embedding = decoder.embedding.weight.shape
        attention, channels = decoder.key.weight.shape
        hidden = decoder.cell.hidden_size
        self.embedding = nn.Embedding(words, embedding)
        self.key = nn.Linear(channels, attention)
        self.query = nn.Linear(hidden, attention)
        self.energy = nn.Linear(attention, 1)
        self.gate = nn.Linear(hidden, channels)
        self.cell = nn.LSTMCell(embedding + channels, hidden)
        self.initial = nn.ModuleList(nn.Linear(channels, hidden) for _ in range(2))
        self.output = nn.Linear(hidden, words)
        self.load_state_dict(decoder.state_dict())

    def start(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell state (caption, hidden) from the grid's mean."""
        mean = grid.mean(dim=1)
        return self.initial[0](mean), self.initial[1](mean)

    def attend(self, grid: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Context (caption, channel) and attention (caption, cell)."""
        mixed = functional.relu(self.key(grid) + self.query(hidden).unsqueeze(1))  # (caption, cell, key)
        attention = torch.softmax(self.energy(mixed).squeeze(2), dim=1)
        return (grid * attention.unsqueeze(2)).sum(dim=1), attention

    def step(self, grid: Tensor, words: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Word vectors (caption, embedding) -> scores (caption, word), hidden, cell, attention."""
        context, attention = self.attend(grid, hidden)
        context = torch.sigmoid(self.gate(hidden)) * context
        hidden, cell = self.cell(torch.cat([words, context], dim=1), (hidden, cell))
        return self.output(hidden), hidden, cell, attention

    def forward(self, grid: Tensor, captions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and targets of all real positions in the same packed order, and attention (caption, step, cell).

        grid (caption, cell, channel); captions (caption, token), `lengths` (caption,) counting start and end.
        """
        lengths, order = lengths.sort(descending=True)
        grid, captions = grid[order], captions[order]
        words = self.embedding(captions)  # (caption, token, embedding)
        steps = (lengths - 1).tolist()  # the end token is no input
        hidden, cell = self.start(grid)
        scores = grid.new_zeros(len(grid), steps[0], self.output.out_features)
        attentions = grid.new_zeros(len(grid), steps[0], grid.shape[1])
        for step in range(steps[0]):
            going = sum(length > step for length in steps)
            score, hidden, cell, attention = self.step(grid[:going], words[:going, step], hidden[:going], cell[:going])
            scores[:going, step], attentions[:going, step] = score, attention
        packed = pack_padded_sequence(scores, steps, batch_first=True).data
        return packed, pack_padded_sequence(captions[:, 1:], steps, batch_first=True).data, attentions


def caption_loss(scores: Tensor, targets: Tensor, attention: Tensor, alpha_c: float) -> Tensor:
    """Cross-entropy, and the doubly stochastic penalty: the attention to a cell should sum to one over a caption."""
    penalty = ((1 - attention.sum(dim=1)) ** 2).mean()
    return functional.cross_entropy(scores, targets) + alpha_c * penalty


def train_step(
    decoder: PlainDecoder, optimizers: Sequence[torch.optim.Optimizer], grid: Tensor, captions: Tensor, lengths: Tensor
) -> float:
    """One update, gradients clipped at 5; its loss."""
    loss = caption_loss(*decoder(grid, captions, lengths), alpha_c=1.0)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.clamp_(-5, 5)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


@torch.no_grad()
def beam_search(decoder: PlainDecoder, grid: Tensor, width: int, max_length: int) -> list[int]:
    """The best caption of one image, grid (1, cell, channel): tokens without start and end.

    Beams that end are removed, and the width shrinks. The result has the highest sum of log probabilities among ended
    beams, or among the others if none ended.
    """
    grid = grid.expand(width, -1, -1)
    tokens = torch.full((width, 1), START, device=grid.device)  # (beam, step)
    total = torch.zeros(width, 1, device=grid.device)
    hidden, cell = decoder.start(grid)
    ended: list[tuple[float, list[int]]] = []
    for step in range(max_length):
        words = decoder.embedding(tokens[:, -1])
        scores, hidden, cell, _ = decoder.step(grid, words, hidden, cell)
        scores = total + torch.log_softmax(scores, dim=1)  # (beam, word)
        candidates = scores[0] if step == 0 else scores.flatten()  # all beams are equal at the first step
        best, place = candidates.topk(width)
        beam, word = place // scores.shape[1], place % scores.shape[1]
        tokens = torch.cat([tokens[beam], word.unsqueeze(1)], dim=1)
        over, going = (word == END).nonzero().flatten(), (word != END).nonzero().flatten()
        ended += zip(best[over].tolist(), tokens[over, 1:-1].tolist(), strict=True)
        width = len(going)
        tokens, total = tokens[going], best[going].unsqueeze(1)
        if width == 0:
            break
        hidden, cell, grid = hidden[beam[going]], cell[beam[going]], grid[beam[going]]
    return max(ended or zip(total.flatten().tolist(), tokens[:, 1:].tolist(), strict=True))[1]
