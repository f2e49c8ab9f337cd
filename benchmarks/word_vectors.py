"""Pretrained word vectors without a download: trained on captions of scenes that are composed but not drawn.

    python benchmarks/word_vectors.py OUT [--scenes 40000] [--size 512] [--seed 2]

The text is five captions each of scenes composed from another seed: like the embedded dataset, but with
none of its captions, and no held-out pair of objects. The vectors are those of
Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization" (NeurIPS 2014), sections 3.3 and 4.2: words
by words up to five positions away, positive pointwise mutual information, the largest singular values, their
root on each side. The file is in GloVe's format, by falling frequency; the same arguments give the same vectors.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import numpy as np

from showtell.core.errors import UserError, run
from showtell.core.files import write_text
from showtell.data.datasets.scenes.compose import compose
from showtell.data.datasets.scenes.five_people import captions
from showtell.data.datasets.scenes.structure import Picture, Thing
from showtell.data.datasets.scenes.world import KINDS
from showtell.data.words import unicode_words
from showtell.decoders.word_layers import INITIAL_RANGE

WINDOW = 5  # words to each side
MIN_COUNT = 5  # rarer words have too few co-occurrences
SIZE = 192  # pixels of the composed picture, for sizes and distances in captions


def undrawn_captions(seed: int, scenes: int) -> Iterator[list[str]]:
    """The five captions of each of `scenes` training scenes from `seed`, with boxes as composed."""
    for number in range(scenes):
        rng = Random(f"{seed}/text/{number}")
        scene = compose(rng, "train")
        boxes = tuple(_box(thing) for thing in scene.things)
        yield captions(Picture(scene, SIZE, boxes, b""), rng)


def _box(thing: Thing) -> tuple[int, int, int, int]:
    """The box of the drawing, pixels: left, top, right, bottom."""
    wide, high = KINDS[thing.kind].shape
    half = thing.tall * wide / high / 2
    edges = thing.x - half, thing.y - thing.tall, thing.x + half, thing.y
    left, top, right, foot = (round(SIZE * min(max(edge, 0.0), 1.0)) for edge in edges)
    return left, top, right, foot


def word_vectors(sentences: Iterable[list[str]], size: int) -> tuple[list[str], np.ndarray]:
    """Words by falling count (then by name) and their vectors, float64 (word, size).

    Their scale is that of a decoder's random vectors, so that only directions differ.
    """
    sentences = list(sentences)
    counts = Counter(word for words in sentences for word in words)
    known = sorted((w for w, n in counts.items() if n >= MIN_COUNT), key=lambda w: (-counts[w], w))
    if not known:
        raise UserError(f"no word occurs {MIN_COUNT} times; take more scenes")
    left, values, _ = np.linalg.svd(positive_pmi(together(sentences, known)))
    # The sign of each dimension is arbitrary: the largest component is made positive.
    left = left * np.sign(left[np.abs(left).argmax(axis=0), np.arange(len(known))])
    vectors = np.zeros((len(known), size))  # there are no more singular values than words
    vectors[:, : len(known)] = (left * np.sqrt(values))[:, :size]
    spread = np.sqrt(np.mean(vectors**2))
    return known, vectors * (INITIAL_RANGE / np.sqrt(3)) / (spread or 1.0)


def together(sentences: Iterable[list[str]], known: list[str]) -> np.ndarray:
    """Counts of two words within WINDOW of each other: symmetric, (word, word). Unknown words keep their positions."""
    row = {word: number for number, word in enumerate(known)}
    pairs: Counter[tuple[int, int]] = Counter()
    for words in sentences:
        rows = [row.get(word) for word in words]
        for place, one in enumerate(rows):
            for other in rows[place + 1 : place + 1 + WINDOW]:
                if one is not None and other is not None:
                    pairs[one, other] += 1
    counts = np.zeros((len(known), len(known)))
    for (one, other), number in pairs.items():
        counts[one, other] += number
        counts[other, one] += number
    return counts


def positive_pmi(counts: np.ndarray) -> np.ndarray:
    """max(0, log P(word, context) / (P(word) P(context))), natural log; 0 where they never co-occur."""
    total = counts.sum()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(total, 1.0)
    ratio = np.divide(counts, expected, out=np.ones_like(counts), where=counts > 0)
    return np.log(np.maximum(ratio, 1.0))


def write_vectors(path: Path, words: list[str], vectors: np.ndarray) -> None:
    """GloVe's text format: a word and its numbers, one word a line."""
    lines = (f"{word} {' '.join(f'{value:.5f}' for value in row)}" for word, row in zip(words, vectors, strict=True))
    write_text(path, "\n".join(lines) + "\n")


def make_vectors(path: Path, scenes: int, size: int, seed: int = 2) -> int:
    """Write the file at `path`; returns its number of words."""
    sentences = [unicode_words(said) for five in undrawn_captions(seed, scenes) for said in five]
    words, vectors = word_vectors(sentences, size)
    write_vectors(path, words, vectors)
    return len(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="text file to write")
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--size", type=int, default=512, help="of a vector: decoder.embedding")
    parser.add_argument("--seed", type=int, default=2, help="of the world; the dataset's own is scenes.seed")
    args = parser.parse_args()
    count = make_vectors(args.out, args.scenes, args.size, args.seed)
    print(f"{args.out}: {count} words, {args.size} numbers each")


if __name__ == "__main__":
    run(main)
