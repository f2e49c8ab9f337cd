"""The published formulas, one caption and one word at a time, over a decoder's weights by their names.

`w` holds the weights of a decoder's state dict. Everything is written out as the papers have it; nothing is shared
with the code under test.
"""

import torch
from torch import Tensor


def lstm(w: dict[str, Tensor], name: str, suffix: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber: one step of one layer."""
    from_input = w[f"{name}weight_ih{suffix}"] @ x + w[f"{name}bias_ih{suffix}"]
    from_hidden = w[f"{name}weight_hh{suffix}"] @ h + w[f"{name}bias_hh{suffix}"]
    i, f, g, o = (from_input + from_hidden).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(w: dict[str, Tensor], name: str, suffix: str, x: Tensor, h: Tensor) -> Tensor:
    """Cho et al.: one step of one layer."""
    ri, zi, ni = (w[f"{name}weight_ih{suffix}"] @ x + w[f"{name}bias_ih{suffix}"]).chunk(3)
    rh, zh, nh = (w[f"{name}weight_hh{suffix}"] @ h + w[f"{name}bias_hh{suffix}"]).chunk(3)
    r, z = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
    return (1 - z) * torch.tanh(ni + r * nh) + z * h


def layers_step(w: dict[str, Tensor], cell: str, names: list[tuple[str, str]], x: Tensor, states: list) -> list:
    """One step of a stack of layers; `states` a tuple of vectors for each."""
    after = []
    for (name, suffix), state in zip(names, states, strict=True):
        after.append(lstm(w, name, suffix, x, *state) if cell == "lstm" else (gru(w, name, suffix, x, *state),))
        x = after[-1][0]
    return after


def word_vector(w: dict[str, Tensor], token: int) -> Tensor:
    """The word's vector; without any, its one-hot vector through the ReLU that the one-hot tutorial puts there."""
    if "embedding.weight" in w:
        return w["embedding.weight"][token]
    onehot = torch.zeros(len(w["output.bias"]))
    onehot[token] = 1.0
    return torch.relu(onehot)


def scores(w: dict[str, Tensor], hidden: Tensor) -> Tensor:
    weight = w.get("output.weight", w.get("embedding.weight"))
    return weight @ hidden + w["output.bias"]


def attend_and_tell(params, w: dict[str, Tensor], grid: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Xu et al. (2015), soft attention: logits (step, word) and attention (step, cell) of one caption of one image.

    `grid` (cell, channel) is what is attended to: pooled already, when the decoder attends to a pooled grid.
    """
    if params.normalise_grid:
        grid = torch.nn.functional.layer_norm(grid, grid.shape[1:], w["grid_norm.weight"], w["grid_norm.bias"])
    mean, carried = grid.mean(0), 2 if params.cell == "lstm" else 1
    initial = [w[f"initial.{n}.weight"] @ mean + w[f"initial.{n}.bias"] for n in range(params.layers * carried)]
    if params.initial_tanh:
        initial = [torch.tanh(x) for x in initial]
    states = [tuple(initial[n * carried : (n + 1) * carried]) for n in range(params.layers)]
    names = [("cell.", ""), *((f"upper.cells.{n}.", "") for n in range(params.layers - 1))]
    logits, attentions = [], []
    for token in tokens:
        hidden = states[-1][0]
        query = w["query.weight"] @ hidden + w["query.bias"]
        energies = []
        for annotation in grid:
            mixed = torch.relu(w["key.weight"] @ annotation + w["key.bias"] + query)
            energies.append((w["energy.weight"] @ mixed + w["energy.bias"]).squeeze())
        alpha = torch.softmax(torch.stack(energies), dim=0)
        context = sum(a * annotation for a, annotation in zip(alpha, grid, strict=True))
        context = torch.sigmoid(w["gate.weight"] @ hidden + w["gate.bias"]) * context
        states = layers_step(w, params.cell, names, torch.cat([word_vector(w, token), context]), states)
        hidden = states[-1][0]
        if params.context_output:
            hidden = hidden + w["context_output.weight"] @ context
        logits.append(scores(w, hidden))
        attentions.append(alpha)
    return torch.stack(logits), torch.stack(attentions)


def projected(params, w: dict[str, Tensor], images: Tensor, training: bool) -> Tensor:
    """The image's vector at its size: (image, size)."""
    if params.image_projection == "linear":
        return images @ w["project.weight"].T + w["project.bias"]
    x = images @ w["project.0.weight"].T + w["project.0.bias"]
    if params.image_projection == "prelu":
        x = torch.where(x > 0, x, w["project.1.weight"] * x)
        return x @ w["project.3.weight"].T + w["project.3.bias"]
    mean, var = w["project.1.running_mean"], w["project.1.running_var"]
    if training:
        mean, var = x.mean(0), x.var(0, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * w["project.1.weight"] + w["project.1.bias"]


def show_and_tell(params, w: dict[str, Tensor], image: Tensor, tokens: list[int]) -> Tensor:
    """Logits (step, word) of one caption of one projected image (size,).

    pre_inject: Vinyals et al. (2015), equations 10 to 12; init_inject: the image is every layer's initial state.
    """
    names = [("network.", f"_l{n}") for n in range(params.layers)]
    carried = 2 if params.cell == "lstm" else 1
    if params.kind == "pre_inject":
        states = [(torch.zeros(params.hidden),) * carried for _ in names]
        states = layers_step(w, params.cell, names, image, states)
    else:
        image = torch.tanh(image) if params.initial_tanh else image
        states = [(image,) * carried for _ in names]
    logits = []
    for token in tokens:
        states = layers_step(w, params.cell, names, word_vector(w, token), states)
        logits.append(scores(w, states[-1][0]))
    return torch.stack(logits)
