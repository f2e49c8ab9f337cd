"""The published formulas, one caption and one word at a time, with a decoder's weights by name.

`w` is a decoder's state dict. The formulas are written as in the papers and share no code with the package.
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
    """One step of a stack of layers; `states` holds a tuple of vectors for each layer."""
    after = []
    for (name, suffix), state in zip(names, states, strict=True):
        after.append(lstm(w, name, suffix, x, *state) if cell == "lstm" else (gru(w, name, suffix, x, *state),))
        x = after[-1][0]
    return after


def word_vector(w: dict[str, Tensor], token: int) -> Tensor:
    """The word's vector; without word vectors its one-hot vector through a ReLU, as in the one-hot tutorial."""
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

    `grid` (cell, channel) is attended to. It is already pooled if the decoder attends to a pooled grid.
    """
    if params.normalise_grid:
        grid = torch.nn.functional.layer_norm(grid, grid.shape[1:], w["grid_norm.weight"], w["grid_norm.bias"])
    whole, carried = grid.mean(0), 2 if params.cell == "lstm" else 1
    if params.summary:  # Zaheer et al. (2017), section 2: a function of the set of cells
        whole = sum(torch.relu(w["summary.weight"] @ cell + w["summary.bias"]) for cell in grid) / len(grid)
    initial = [w[f"initial.{n}.weight"] @ whole + w[f"initial.{n}.bias"] for n in range(params.layers * carried)]
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
        said = hidden = states[-1][0]
        if params.context_output:
            said = said + w["context_output.weight"] @ context
        if params.summary:
            said = said + w["summary_output.weight"] @ whole
        if params.summary_product:
            said = said + summary_product(w, hidden, context, whole)
        logits.append(scores(w, said))
        attentions.append(alpha)
    return torch.stack(logits), torch.stack(attentions)


def summary_product(w: dict[str, Tensor], hidden: Tensor, context: Tensor, whole: Tensor) -> Tensor:
    """Kim et al. (2017), section 3, equation 8, on a layer norm of `whole`."""
    spread = (whole - whole.mean()) / (whole.var(correction=0) + 1e-5).sqrt()
    spread = w["product.normalise.weight"] * spread + w["product.normalise.bias"]
    here = w["product.context.weight"] @ context + w["product.context.bias"] + w["product.state.weight"] @ hidden
    everywhere = w["product.whole.weight"] @ spread + w["product.whole.bias"]
    return w["product.output.weight"] @ (torch.tanh(here) * everywhere)


def projected(params, w: dict[str, Tensor], images: Tensor, training: bool) -> Tensor:
    """The projection of the image vectors: (image, size)."""
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


def transform_and_tell(params, w: dict[str, Tensor], grid: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Vaswani et al. (2017), norms first: logits (step, word) of one caption of one image, and the mean over heads of
    the last layer's attention (step, cell). Each word is computed from the previous words, head by head.

    Layers over the grid with memory slots: Cornia et al. (2020), equations 2 and 3.
    """
    if params.normalise_grid:
        grid = torch.nn.functional.layer_norm(grid, grid.shape[1:], w["grid_norm.weight"], w["grid_norm.bias"])
    cells = [linear(w, "grid_input", cell) for cell in grid]
    for n in range(params.grid_layers):
        cells = grid_layer(w, f"grid_layers.{n}.", cells, params.heads)
    if params.grid_layers:
        cells = [norm(w, "grid_output_norm", cell) for cell in cells]
    width, words = params.hidden, []
    for step, token in enumerate(tokens):
        word = word_vector(w, token) * width**0.5
        if "word_input.weight" in w:
            word = linear(w, "word_input", word)
        words.append(word + position(w, step, width))
    for n in range(params.layers):
        words, attention = word_layer(w, f"layers.{n}.", words, cells, params.heads)
    return torch.stack([scores(w, norm(w, "output_norm", word)) for word in words]), attention


def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def feed_forward(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    hidden = torch.relu(linear(w, f"{name}feed_forward.1", norm(w, f"{name}feed_forward.0", x)))
    return x + linear(w, f"{name}feed_forward.4", hidden)


def position(w: dict[str, Tensor], step: int, width: int) -> Tensor:
    """Section 3.5: sine in even components, cosine in odd ones."""
    if "positions.weight" in w:
        return w["positions.weight"][step]
    angles = [torch.tensor(step / 10000 ** ((i - i % 2) / width)) for i in range(width)]
    return torch.stack([torch.cos(a) if i % 2 else torch.sin(a) for i, a in enumerate(angles)])


def multi_head(query: Tensor, keys: list[Tensor], values: list[Tensor], heads: int) -> tuple[Tensor, Tensor]:
    """Equation 1 in each head: the output at one position, and the mean of the weights over heads."""
    gathered, weights = [], []
    for q, k, v in zip(query.chunk(heads), *(torch.stack(x).chunk(heads, dim=1) for x in (keys, values)), strict=True):
        alpha = torch.softmax(k @ q / len(q) ** 0.5, dim=0)
        gathered.append(sum(a * value for a, value in zip(alpha, v, strict=True)))
        weights.append(alpha)
    return torch.cat(gathered), torch.stack(weights).mean(0)


def grid_layer(w: dict[str, Tensor], name: str, cells: list[Tensor], heads: int) -> list[Tensor]:
    normed = [norm(w, f"{name}norm", cell) for cell in cells]
    both = [linear(w, f"{name}key_value", cell) for cell in normed] + list(w.get(f"{name}memory", []))
    keys, values = zip(*(x.chunk(2) for x in both), strict=True)
    after = []
    for cell, x in zip(cells, normed, strict=True):
        gathered, _ = multi_head(linear(w, f"{name}query", x), keys, values, heads)
        after.append(feed_forward(w, name, cell + linear(w, f"{name}output", gathered)))
    return after


def word_layer(
    w: dict[str, Tensor], name: str, words: list[Tensor], cells: list[Tensor], heads: int
) -> tuple[list[Tensor], Tensor]:
    own = [linear(w, f"{name}word_query_key_value", norm(w, f"{name}word_norm", word)).chunk(3) for word in words]
    grid_keys, grid_values = zip(*(linear(w, f"{name}grid_key_value", cell).chunk(2) for cell in cells), strict=True)
    after, looked = [], []
    for step, word in enumerate(words):
        _, keys, values = zip(*own[: step + 1], strict=True)
        gathered, _ = multi_head(own[step][0], keys, values, heads)
        word = word + linear(w, f"{name}word_output", gathered)
        query = linear(w, f"{name}grid_query", norm(w, f"{name}grid_norm", word))
        gathered, alpha = multi_head(query, grid_keys, grid_values, heads)
        after.append(feed_forward(w, name, word + linear(w, f"{name}grid_output", gathered)))
        looked.append(alpha)
    return after, torch.stack(looked)
