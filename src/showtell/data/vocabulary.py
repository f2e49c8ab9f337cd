"""Words and tokens: the vocabulary, and how captions become tokens."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import fingerprint, read_json, write_json
from showtell.core.params import Section
from showtell.core.terminal import one_line
from showtell.data.caption_writer import CaptionWriter
from showtell.data.datasets.karpathy import Record
from showtell.data.words import TOKENIZERS, TokenizerName, join

PAD, START, END, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")


class VocabParams(Section):
    tokenizer: TokenizerName = Field(description="given: words of the captions file | nltk: English | unicode: any")
    min_count: int = Field(ge=1, description="a word must occur this often in the training captions")
    max_size: int | None = Field(ge=5, description="size with the four specials, the commonest words first; null: all")
    max_length: int = Field(ge=1, le=1000, description="words of a training caption; what exceeds it: see long")
    long: Literal["cut", "drop"] = Field(description="longer captions: cut to max_length | drop from training")
    captions_per_image: int | None = Field(ge=1, description="the first N captions of a train image; null: all")


class Vocabulary:
    """Two-way map of words and tokens. `<pad>` 0, `<start>` 1, `<end>` 2, `<unk>` 3, then by count, then by word."""

    def __init__(self, words: Sequence[str], counts: Sequence[int]):
        """`words` without the specials, the most frequent first, with their counts."""
        self.words = [*SPECIALS, *words]
        self.counts = [0] * len(SPECIALS) + list(counts)
        self._token = {word: token for token, word in enumerate(self.words)}
        if len(self._token) != len(self.words) or len(self.counts) != len(self.words):
            raise ValueError("a vocabulary needs distinct words and one count for each")

    @classmethod
    def build(cls, counts: Mapping[str, int], min_count: int, max_size: int | None) -> "Vocabulary":
        """From the counts of words in the training captions."""
        # A special token spelt out in a caption is an ordinary word.
        kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIALS]
        kept.sort(key=lambda word: (-counts[word], word))
        if max_size is not None:
            kept = kept[: max_size - len(SPECIALS)]
        return cls(kept, [counts[word] for word in kept])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self._token.get(word, UNK) > UNK

    def token(self, word: str | None) -> int | None:
        """The token of a word; None for a word that has none, and without a word."""
        return self._token[word] if word is not None and word in self else None

    def encode(self, words: Iterable[str]) -> list[int]:
        """Tokens without `<start>` and `<end>`; words out of the vocabulary (and specials spelt out) are `<unk>`."""
        return [max(self._token.get(word, UNK), UNK) for word in words]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Words up to the first `<end>`; `<pad>` and `<start>` are left out, `<unk>` is kept."""
        words = []
        for token in tokens:
            if token == END:
                break
            if token not in (PAD, START):
                words.append(self.words[token])
        return words

    def caption(self, tokens: Iterable[int]) -> str:
        """`decode` as one line of text."""
        return join(self.decode(tokens))

    @cached_property
    def hash(self) -> str:
        """16 hex digits; equal for equal words in equal order."""
        return fingerprint(self.words)

    def save(self, path: Path) -> None:
        write_json(path, {"words": self.words, "counts": self.counts}, indent=None)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        content = read_json(path)
        words = content.get("words") if isinstance(content, dict) else None
        if not isinstance(words, list) or tuple(words[: len(SPECIALS)]) != SPECIALS:
            raise UserError(f"{path} is not a vocabulary (its words must begin with {', '.join(SPECIALS)})")
        counts = content.get("counts")
        for name, values, kind in (("words", words, str), ("counts", counts, int)):
            odd = [value for value in values if type(value) is not kind] if isinstance(values, list) else [values]
            if odd:
                raise UserError(f"{path} is not a vocabulary: {one_line(repr(odd[0]))} among its {name}")
        try:
            return cls(words[len(SPECIALS) :], counts[len(SPECIALS) :])
        except ValueError as error:
            raise UserError(f"{path} is not a vocabulary: {error}") from None


def words_of(record: Record, tokenizer: TokenizerName) -> list[list[str]]:
    """The words of each caption of `record`."""
    if tokenizer == "given":
        return record.words
    return [TOKENIZERS[tokenizer](caption) for caption in record.captions]


def training_words(words: Sequence[list[str]], params: VocabParams) -> list[list[str]]:
    """The captions of a train image that are learned: at most so many, none too long, and at least one."""
    kept = list(words[: params.captions_per_image])
    if params.long == "drop":
        # An image must keep a caption: if all are too long, the shortest is kept, cut.
        kept = [w for w in kept if len(w) <= params.max_length] or [min(kept, key=len)]
    return [w[: params.max_length] for w in kept]


def build_captions(records: Iterable[Record], params: VocabParams, folder: Path) -> tuple[Vocabulary, dict[str, str]]:
    """Write `folder`/<split>.json and .h5 of every split, reading `records` once; returns the vocabulary of the train
    captions, and a description of each split's size.

    Tokens have `<start>` and `<end>`. Those of train are of the captions that are learned, those of val and test of
    every caption, cut. Only the words and their counts are in memory: until the vocabulary is known, a word's token is
    its index in the order of first occurrence.
    """
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(CaptionWriter(folder / f"{split}.json")) for split in ("train", "val", "test")
        }
        vocabulary = _write(records, params, writers)
    return vocabulary, {s: f"{w.images:,} images, {w.references:,} captions" for s, w in writers.items()}


def _write(records: Iterable[Record], params: VocabParams, writers: Mapping[str, CaptionWriter]) -> Vocabulary:
    numbers: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for record in records:
        words = words_of(record, params.tokenizer)
        if record.split == "train":
            sequences = training_words(words, params)
            for sequence in sequences:
                counts.update(sequence)
        else:
            sequences = [w[: params.max_length] for w in words]
        drafts = [
            [START, *(numbers.setdefault(word, len(numbers) + len(SPECIALS)) for word in sequence), END]
            for sequence in sequences
        ]
        entry = {"image_id": record.image_id, "file": record.file, "references": record.captions, "words": words}
        writers[record.split].add(entry, drafts)
    for split, writer in writers.items():
        if not writer.images:
            raise UserError(f"the captions have no image in split {split!r}; the pipeline needs train, val and test")
    vocabulary = Vocabulary.build(counts, params.min_count, params.max_size)
    if len(vocabulary) == len(SPECIALS):
        raise UserError(f"no word occurs {params.min_count} times in the training captions; lower vocab.min_count")
    table = np.array([PAD, START, END, UNK, *vocabulary.encode(numbers)], np.uint32)
    for writer in writers.values():
        writer.finish(table)
    return vocabulary
