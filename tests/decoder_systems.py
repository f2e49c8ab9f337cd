"""Decoders of every kind with random weights, a batch for them, and their logits by the published formulas."""

import torch
from decoder_formulas import attend_and_tell, projected, show_and_tell, transform_and_tell
from torch.nn import functional

from showtell.decoders import DECODERS, Decoder, DecoderParams, build_decoder

WORDS, CHANNELS, CELLS = 11, 6, 9
BY_FORMULAS = {"attention": attend_and_tell, "transformer": transform_and_tell}  # decoders with attention
# Three images with up to three captions, lengths in no order; 0: an image has fewer captions than another.
LENGTHS = torch.tensor([[3, 5, 1], [6, 2, 0], [4, 4, 4]])
PUBLISHED = {
    "kind": "attention", "cell": "lstm", "layers": 1, "embedding": 5, "embeddings": None, "train_embeddings": True,
    "hidden": 7, "tied": False, "dropout": 0.5, "attention": 4, "attention_kind": "soft", "hard_reward": None,
    "hard_entropy": None, "grid": None, "summary": None, "summary_product": False, "normalise_grid": False,
    "initial_tanh": False, "context_output": False, "image_projection": None,
}  # fmt: skip
INJECTION = PUBLISHED | {
    "kind": "pre_inject", "attention": None, "attention_kind": None, "image_projection": "batch_norm",
}  # fmt: skip
TRANSFORMER = {
    "kind": "transformer", "layers": 1, "embedding": 6, "embeddings": None, "train_embeddings": True, "hidden": 6,
    "tied": False, "dropout": 0.5, "heads": 2, "feed_forward": 9, "positions": "sinusoidal", "grid_layers": 0,
    "memory_slots": 0, "normalise_grid": False,
}  # fmt: skip
SYSTEMS = {
    "show-attend-tell": PUBLISHED,
    "showtell": PUBLISHED | {"normalise_grid": True, "initial_tanh": True, "context_output": True},
    "attention over a pooled grid": PUBLISHED | {"grid": 4, "initial_tanh": True},
    "attention, 2-layer GRU": PUBLISHED | {"cell": "gru", "layers": 2, "context_output": True},
    "attention, 3-layer LSTM": PUBLISHED | {"layers": 3},
    "attention, one-hot, GRU": PUBLISHED | {"embedding": None, "cell": "gru"},
    "attention with a summary": PUBLISHED | {"summary": 5, "normalise_grid": True, "context_output": True},
    "attention with a summary, 2-layer GRU": PUBLISHED | {"summary": 3, "cell": "gru", "layers": 2},
    "attention with a summary's product": PUBLISHED | {"summary": 5, "summary_product": True, "context_output": True},
    "attention with a summary's product alone, GRU": PUBLISHED | {"summary": 3, "summary_product": True, "cell": "gru"},
    "attention, tied": PUBLISHED | {"embedding": 7, "tied": True},
    "resnet152-lstm": INJECTION,
    "resnet152-lstm, 2-layer GRU": INJECTION | {"cell": "gru", "layers": 2},
    "vgg16-onehot-lstm": INJECTION | {"kind": "init_inject", "embedding": None, "image_projection": "linear"},
    "init-inject, 2-layer GRU": INJECTION
    | {"kind": "init_inject", "layers": 2, "cell": "gru", "initial_tanh": True, "image_projection": "linear"},
    "densenet121-lstm": INJECTION | {"image_projection": "prelu"},
    "transformer": TRANSFORMER,
    "transformer, 2 layers, learned positions": TRANSFORMER | {"layers": 2, "positions": "learned", "embedding": 5},
    "transformer over 2 layers of grid": TRANSFORMER | {"grid_layers": 2, "normalise_grid": True, "heads": 3},
    "transformer with memory slots, tied": TRANSFORMER | {"grid_layers": 1, "memory_slots": 4, "tied": True},
    "pre-inject, tied": INJECTION | {"embedding": 7, "tied": True, "image_projection": "linear"},
}


def unread(kind: str) -> dict[str, None]:
    """The keys of params.yaml that only decoders other than `kind` read, off."""
    own = DECODERS[kind].Params.model_fields
    return {key: None for decoder in DECODERS.values() for key in decoder.Params.model_fields if key not in own}


def decoder_of(name: str) -> tuple[DecoderParams, Decoder]:
    """The system with random weights and batch norm statistics, dropout off."""
    params = DecoderParams.model_validate(SYSTEMS[name])
    torch.manual_seed(3)
    decoder = build_decoder(params, CHANNELS, WORDS).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    for name, buffer in decoder.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return params, decoder


def batch(params: DecoderParams) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, inputs and mask."""
    torch.manual_seed(4)
    shape = (3, CELLS, CHANNELS) if params.kind in BY_FORMULAS else (3, CHANNELS)
    mask = torch.arange(6) < LENGTHS[..., None]
    return torch.randn(shape), torch.randint(0, WORDS, (3, 3, 6)) * mask, mask


def by_formulas(params, decoder, features, inputs, mask):
    """Logits (real position, word) and, of decoders with attention, maps (real position, cell), caption by caption."""
    weights = dict(decoder.state_dict(keep_vars=True))
    if params.kind == "attention" and params.grid is not None:
        rows = features.shape[1]
        side = round(rows**0.5)
        maps = features.transpose(1, 2).unflatten(2, (side, side))
        features = functional.adaptive_avg_pool2d(maps, params.grid).flatten(2).transpose(1, 2)
    elif params.kind not in BY_FORMULAS:
        features = projected(params, weights, features, decoder.training)
    logits, maps = [], []
    for image in range(len(inputs)):
        for caption in range(inputs.shape[1]):
            tokens = inputs[image, caption][mask[image, caption]].tolist()
            if not tokens:
                continue
            if params.kind in BY_FORMULAS:
                found, alpha = BY_FORMULAS[params.kind](params, weights, features[image], tokens)
                maps.append(alpha)
            else:
                found = show_and_tell(params, weights, features[image], tokens)
            logits.append(found)
    return torch.cat(logits), torch.cat(maps) if maps else None


def gradients(decoder: Decoder, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    decoder.zero_grad()
    torch.manual_seed(5)
    (logits * torch.randn(logits.shape)).sum().backward()
    return {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
