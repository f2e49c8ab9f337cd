"""Pretrained word vectors from text files: GloVe (`word v1 v2 ...`), word2vec (with a header `count size`)."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.decoders.decoder_params import DecoderParams
from showtell.decoders.interface import Decoder
from showtell.decoders.word_layers import WordParams

SHOWN = 10  # words without a vector that the log names


def begin_with_word_vectors(decoder: Decoder, params: DecoderParams, vocabulary: Vocabulary) -> None:
    """Fill the decoder's word embeddings from the file `decoder.embeddings` of params.yaml, if it names one."""
    if isinstance(params, WordParams) and params.embeddings is not None:
        assert isinstance(decoder.embedding, nn.Embedding)  # checked by WordParams
        use_word_vectors(decoder.embedding, given(params.embeddings), vocabulary)


def use_word_vectors(embedding: nn.Embedding, path: Path, vocabulary: Vocabulary) -> float:
    """Fill `embedding` from the file at `path`, in place, log its coverage, and return the share of words found.

    Words without a vector, special tokens among them, are drawn from a normal distribution with the mean and standard
    deviation of the found vectors in each dimension.
    """
    found = read_vectors(path, vocabulary, embedding.embedding_dim)
    words = vocabulary.words[len(SPECIALS) :]
    if not found:
        raise UserError(f"decoder.embeddings = {str(path)!r}: none of the vocabulary's {len(words)} words is in it")
    vectors = torch.stack(list(found.values()))  # (found word, embedding)
    deviation = vectors.std(dim=0, unbiased=False)
    with torch.no_grad():
        drawn = vectors.mean(dim=0) + deviation * torch.randn(embedding.weight.shape)
        embedding.weight.copy_(drawn)
        embedding.weight[list(found)] = vectors.to(embedding.weight.device)
    log(coverage_report(path, vocabulary, set(found)))
    return len(found) / len(words)


def coverage_report(path: Path, vocabulary: Vocabulary, found: set[int]) -> str:
    """One line: how many words have a vector, their share of the training captions, and the most frequent others."""
    words = range(len(SPECIALS), len(vocabulary))
    total = sum(vocabulary.counts[token] for token in words)
    covered = sum(vocabulary.counts[token] for token in words if token in found)
    missing = sorted((token for token in words if token not in found), key=lambda token: -vocabulary.counts[token])
    line = (
        f"{path}: vectors for {len(found)} of {len(words)} words, {covered / max(total, 1):.1%} of all in the captions"
    )
    return line + (f"; none for {', '.join(vocabulary.words[token] for token in missing[:SHOWN])}" if missing else "")


def read_vectors(path: Path, vocabulary: Vocabulary, size: int) -> dict[int, Tensor]:
    """Token -> vector (size,) for the vocabulary's words in the file; for a word given twice the first vector.

    `UserError` when there is no such file, its vectors have another size, or what follows such a word is not numbers.
    """
    tokens = {word: token for token, word in enumerate(vocabulary.words) if token >= len(SPECIALS)}
    found: dict[int, Tensor] = {}
    header = check_size(path, size)
    for number, line in enumerate(_lines(path), start=1):
        if number == 1 and header:
            continue
        word, *values = line.rsplit(" ", size)  # some words contain spaces
        token = tokens.get(word)
        if token is not None and token not in found:
            found[token] = _vector(values, size, path, number)
    return found


def check_size(path: Path, size: int) -> bool:
    """Whether the first line is a header; `UserError` when there is no such file, or its vectors have another size."""
    first = next(_lines(path), "")
    theirs, header = _size_of(first)
    if first and theirs != size:
        raise UserError(
            f"decoder.embeddings = {str(path)!r}: its vectors have size {theirs}, not decoder.embedding = {size}"
        )
    return header


def _size_of(first: str) -> tuple[int, bool]:
    """The size of the vectors, and whether this first line is a header."""
    fields = first.split(" ")
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        return int(fields[1]), True
    return len(fields) - 1, False


def _vector(values: list[str], size: int, path: Path, number: int) -> Tensor:
    try:
        vector = torch.tensor([float(value) for value in values])
    except ValueError:
        vector = torch.empty(0)
    if len(vector) != size or not vector.isfinite().all():
        raise UserError(f"{path}, line {number}: not a word and {size} numbers")
    return vector


def _lines(path: Path) -> Iterator[str]:
    """Lines without their end (some files have a space before it); `.gz` files are decompressed."""
    if not path.is_file():
        raise UserError(f"decoder.embeddings = {str(path)!r}: no such file")
    unpack = gzip.open if path.suffix == ".gz" else open
    try:
        with unpack(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\r\n ")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as text: {error}; vectors must be in GloVe or word2vec text format"
        ) from None
