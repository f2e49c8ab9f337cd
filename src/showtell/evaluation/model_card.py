"""README.md of the served bundle: a model card in the Hugging Face Hub's format.

Front matter: https://huggingface.co/docs/hub/model-cards. What only the user knows (licence, and the language of own
captions) is a comment to fill in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from showtell.core.files import read_json, sha256, write_text
from showtell.core.terminal import one_line
from showtell.encoders.encoder_params import EncoderParams
from showtell.encoders.pretrained import SHIPPED
from showtell.encoders.weights import WEIGHTS_SUFFIXES
from showtell.evaluation.judge import Evaluation
from showtell.evaluation.report.html_tables import AGREEMENT, TRUTH, Row, hundred
from showtell.generation.bundle import CONFIG, VOCAB, WEIGHTS
from showtell.generation.captioner import Captioner
from showtell.generation.neighbours import NEIGHBOURS

CARD = "README.md"
LICENCE = "# license: to be chosen by who publishes this model (https://huggingface.co/docs/hub/repositories-licenses)"
LANGUAGE = "# language: of the captions, as en (to be filled in)"
ENGLISH = ("scenes", "coco", "flickr8k", "flickr30k")  # datasets whose captions' language is known
# The Hub's names of metrics that it knows; the others keep this package's keys.
HUB_METRICS = {"bleu4": "bleu", "rouge_l": "rouge", "meteor": "meteor", "cider": "cider"}
NOT_LISTED = ("pointing_chance",)  # not a property of the model


class Facts(NamedTuple):
    """The content of a card. `train`, `val`: entries of their captions; `identity`: the output of `provenance`."""

    encoder: EncoderParams
    train: Sequence[Mapping[str, Any]]
    val: Sequence[Mapping[str, Any]]
    test: Evaluation
    intervals: Mapping[str, float]  # intervals of test's metrics: `<metric>_low`, `<metric>_high`
    captioner: Captioner
    identity: Mapping[str, str]

    @property
    def dataset(self) -> str:
        return self.identity["dataset"]


def write_card(folder: Path, facts: Facts) -> None:
    """Write the card of the bundle in `folder`, whose other files must be there."""
    write_text(Path(folder) / CARD, model_card(Path(folder), facts))


def model_card(folder: Path, facts: Facts) -> str:
    """The text of the card: front matter in YAML, then Markdown."""
    config = read_json(folder / CONFIG)
    parts = [
        f"---\n{front_matter(facts)}---",
        f"# showtell-{facts.dataset}: a model that describes pictures",
        _summary(config, facts),
        _use(),
        "## Data\n\n" + _data(facts),
        "## Scores\n\n" + _scores(facts),
        "## Training\n\n" + _training(config, facts.encoder),
        "## Decoding\n\n" + decoding(config, facts.captioner),
        "## Limits\n\n" + _limits(facts),
        "## Identity\n\n" + _identity(folder, config, facts.identity),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(facts: Facts) -> str:
    """YAML front matter for the Hub; scores x100, with two decimals."""
    known = _known(facts)
    results = [
        {"type": HUB_METRICS.get(key, key), "name": f"{row.name} (x100)", "value": round(100 * value, 2)}
        for key, row, value in known
    ]
    task = {"type": "image-to-text", "name": "Image captioning"}
    data = {"type": facts.dataset, "name": facts.dataset, "split": "test"}
    content: dict[str, Any] = {"language": "en"} if facts.dataset in ENGLISH else {}
    content |= {
        "library_name": "showtell",
        "pipeline_tag": "image-to-text",
        "tags": ["image-captioning", "showtell"],
        "metrics": [HUB_METRICS[key] for key, *_ in known if key in HUB_METRICS],
        "model-index": [
            {"name": f"showtell-{facts.dataset}", "results": [{"task": task, "dataset": data, "metrics": results}]}
        ],
    }
    comments = [LICENCE] if facts.dataset in ENGLISH else [LICENCE, LANGUAGE]
    return "\n".join(comments) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _known(facts: Facts) -> list[tuple[str, Row, float]]:
    """The metrics that were computed: key, display name, value."""
    rows = {**AGREEMENT, **TRUTH}
    return [
        (key, rows.get(key) or Row(key, ""), value)
        for key, value in facts.test.metrics.items()
        if value is not None and key not in NOT_LISTED
    ]


def _summary(config: Mapping[str, Any], facts: Facts) -> str:
    decoder = config["decoder"]["kind"]
    more = f", together with {len(config['others'])} more models" if config.get("others") else ""
    return (
        f"Encoder {config['encoder']['name']}, {decoder} decoder{more}; a vocabulary of "
        f"{len(facts.captioner.model.vocabulary):,} words; trained and scored on `{facts.dataset}` with Showtell."
    )


def _use() -> str:
    return (
        "## Use\n\nWith the package `showtell` installed, and this folder at hand (from the Hub: `hf download NAME "
        "--local-dir model`):\n\n"
        "    showtell caption --model model photo.jpg\n\n"
        "or in Python:\n\n"
        "```python\nfrom showtell import Captioner\n\n"
        'print(Captioner.load("model").caption(["photo.jpg"])[0].text)\n```\n\n'
        "Nothing in the folder is run when it is loaded: weights are safetensors, everything else is JSON."
    )


def _data(facts: Facts) -> str:
    lines = ["| split | images | captions |", "| --- | --- | --- |"]
    for split, entries in {"train": facts.train, "val": facts.val, "test": facts.test.entries}.items():
        captions = sum(len(entry["references"]) for entry in entries)
        lines.append(f"| {split} | {len(entries):,} | {captions:,} |")
    if facts.dataset == "scenes":
        lines += ["", "`scenes` are drawings with captions, both generated by Showtell, not photographs."]
    return "\n".join(lines)


def _scores(facts: Facts) -> str:
    """The protocol, then a row for each metric, x100."""
    protocol = (
        f"On the {len(facts.test.entries):,} images of test, one generated caption each against all references; "
        f"scored on {facts.test.scores.tokenisation.text}. Times 100; 95% bootstrap intervals over images. The epoch "
        "was picked on val, test was read once, by the stage `evaluate`."
    )
    notes = facts.test.scores.notes
    lines = ["| metric | test | 95% interval | what it tells |", "| --- | --- | --- | --- |"]
    for key, row, value in _known(facts):
        low, high = (facts.intervals.get(f"{key}_{end}") for end in ("low", "high"))
        bounds = f"{hundred(low)} to {hundred(high)}" if low is not None and high is not None else ""
        tells = "; ".join(filter(None, (row.tells, notes.get(key))))
        lines.append(f"| {row.name} | {hundred(value)} | {bounds} | {tells} |")
    absent = [f"{key.upper()}: {note}." for key, note in notes.items() if facts.test.metrics.get(key) is None]
    return "\n\n".join([protocol, "\n".join(lines), *absent])


def _training(config: Mapping[str, Any], encoder: EncoderParams) -> str:
    size, fit = config["transform"]["size"], config["transform"]["fit"]
    place = f"up to `{config['encoder']['node']}`" if config["encoder"].get("node") else "whole"
    if levels := config["encoder"].get("levels"):
        place += f" with the maps of `{'`, `'.join(levels)}`"
    kept = config.get("notes", {})
    lines = [
        f"- **Encoder**: {encoder.name}, {place}; pictures of {size} x {size} pixels (`{fit}`).",
        f"- **Weights it began with**: {weights_source(encoder)}.",
    ]
    if kept.get("cider") is not None:
        lines.append(
            f"- **Kept epoch**: {kept.get('epoch')} of the last stage that learnt, CIDEr-D on val "
            f"{hundred(kept['cider'])} with the beam of validation."
        )
    return "\n".join(lines)


def weights_source(encoder: EncoderParams) -> str:
    """Source of the encoder's initial weights, for people; for a file its name without its folder."""
    if encoder.weights == "none":
        return "drawn at random: all that it knows it learnt from train"
    if encoder.weights in SHIPPED:
        return f"`{encoder.weights}`, which come with the package `showtell`"
    if encoder.weights.endswith(WEIGHTS_SUFFIXES):
        return f"the file `{Path(encoder.weights).name}`"
    library = "timm" if encoder.name.startswith("timm/") else "torchvision"
    return f"`{encoder.weights}` as {library} publishes them"


def decoding(config: Mapping[str, Any], captioner: Captioner) -> str:
    """How captions are generated, with the settings in a bundle's `config`, and what training images do in it."""
    search, detects = captioner.search, captioner.model.detector is not None
    asked = config["search"].items()
    settings = {key: value for key, value in asked if value is not None and key not in search.unread}
    lines = "\n    ".join(f"{key}: {one_line(str(value))}" for key, value in settings.items())
    text = f"{captioner.search.described()}; what is served is what was scored:\n\n    {lines}"
    neighbours = captioner.neighbours_in_use
    if neighbours is None:
        return text
    uses = ["written with words of"] if search.override(consensus=0.0).uses_images(detects) else []
    uses += ["compared with"] if search.compares_images else []
    return (
        f"{text}\n\nCaptions are {' and '.join(uses)} those of similar training images: `{NEIGHBOURS}` holds the "
        f"captions of {len(neighbours):,} of them, and a vector of each image."
    )


def _limits(facts: Facts) -> str:
    seen = f"It knows what the {len(facts.train):,} training images of `{facts.dataset}` and their captions show"
    wrong = facts.test.metrics.get("chair_s")
    told = f" On test {hundred(wrong)}% of its captions name a thing that is not there." if wrong is not None else ""
    return (
        f"{seen}; of other pictures it says what comes nearest.{told} What the captions of train say about people, "
        "it says too: read captions before you publish them."
    )


def _identity(folder: Path, config: Mapping[str, Any], identity: Mapping[str, str]) -> str:
    names = {
        f"SHA-256 of `{WEIGHTS}`": sha256(folder / WEIGHTS),
        f"SHA-256 of `{VOCAB}`": sha256(folder / VOCAB),
        **({f"SHA-256 of `{NEIGHBOURS}`": sha256(folder / NEIGHBOURS)} if (folder / NEIGHBOURS).exists() else {}),
        "vocabulary": config["vocabulary"],
        **{key: identity[key] for key in ("model", "search", "test", "code") if key in identity},
    }
    lines = "\n".join(f"| {key} | `{value}` |" for key, value in names.items())
    told = (
        "`model`, `search`, `test` and `code` name the model, the settings of the search, the test captions and the "
        "code of the stage `evaluate`, as in "
    )
    return f"| | |\n| --- | --- |\n{lines}\n\n{told}`metrics/provenance.json`."
