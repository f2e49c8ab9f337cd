"""Word vectors from files: both formats, alignment, scale of missing words, errors."""

import gzip
from pathlib import Path

import pytest
import torch
from torch import nn

from showtell.core.errors import UserError
from showtell.data.vocabulary import SPECIALS, UNK, Vocabulary
from showtell.learning.word_vectors import read_vectors, use_word_vectors

VOCABULARY = Vocabulary(["dog", "red", "kite", "zebra"], [10, 6, 3, 1])
GLOVE = "the 0.5 0.5 0.5\ndog 1 2 3\nkite -1 -2e-1 .3\nred 0 0 1.5\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def token(word: str) -> int:
    return VOCABULARY.encode([word])[0]


@pytest.mark.parametrize("kind", ["glove", "word2vec", "gz", "trailing spaces", "windows"])
def test_both_formats_align_with_the_vocabulary(tmp_path, kind):
    path = tmp_path / "vectors.txt"
    text = {"word2vec": "4 3\n" + GLOVE, "trailing spaces": GLOVE.replace("\n", " \n")}.get(kind, GLOVE)
    if kind == "gz":
        path = tmp_path / "vectors.txt.gz"
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_bytes((text.replace("\n", "\r\n") if kind == "windows" else text).encode())
    found = read_vectors(path, VOCABULARY, 3)
    expected = {token("dog"): [1.0, 2.0, 3.0], token("kite"): [-1.0, -0.2, 0.3], token("red"): [0.0, 0.0, 1.5]}
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        torch.testing.assert_close(found[key], torch.tensor(vector))


def test_words_with_spaces_and_repeated_words(tmp_path):
    path = write(tmp_path / "v.txt", "the 1 1\n. . . 2 2\ndog 3 3\ndog 4 4\n")
    assert read_vectors(path, VOCABULARY, 2)[token("dog")].tolist() == [3, 3]


def test_given_vectors_are_exact_and_random_ones_have_their_scale(tmp_path, capsys):
    torch.manual_seed(0)
    words = [f"w{n}" for n in range(400)]
    vocabulary = Vocabulary(words, range(400, 0, -1))
    vectors = torch.randn(200, 8) * torch.linspace(0.1, 2, 8) + torch.linspace(-3, 3, 8)
    lines = [f"{word} " + " ".join(f"{x:.6f}" for x in v) for word, v in zip(words[::2], vectors.tolist(), strict=True)]
    path = write(tmp_path / "v.txt", "\n".join(lines))
    embedding = nn.Embedding(len(vocabulary), 8)
    assert use_word_vectors(embedding, path, vocabulary) == 0.5
    weight = embedding.weight.detach()
    torch.testing.assert_close(weight[len(SPECIALS) :: 2], vectors, atol=1e-5, rtol=0)
    drawn = weight[len(SPECIALS) + 1 :: 2]
    torch.testing.assert_close(drawn.std(0), vectors.std(0), rtol=0.25, atol=0)
    assert ((drawn.mean(0) - vectors.mean(0)).abs() < 0.4 * vectors.std(0)).all()
    assert not torch.equal(weight[UNK], weight[UNK + 1])
    assert "vectors for 200 of 400 words, 50.1% of all in the captions; none for w1, w3, w5" in capsys.readouterr().err


def test_random_vectors_depend_on_the_seed(tmp_path):
    path = write(tmp_path / "v.txt", GLOVE)
    tables = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        embedding = nn.Embedding(len(VOCABULARY), 3)
        use_word_vectors(embedding, path, VOCABULARY)
        tables.append(embedding.weight.detach())
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2\n", r"its vectors have size 2, not decoder\.embedding = 3"),
        ("4 300\ndog 1 2 3\n", r"its vectors have size 300, not decoder\.embedding = 3"),
        ("cat 1 2 3\n", r"none of the vocabulary's 4 words is in it"),
        ("", r"none of the vocabulary's 4 words is in it"),
        ("the 1 2 3\ndog 1 two 3\n", r"line 2: not a word and 3 numbers"),
        ("the 1 2 3\ndog 1\n", r"line 2: not a word and 3 numbers"),
        ("the 1 2 3\ndog 1 nan 3\n", r"line 2: not a word and 3 numbers"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, message):
    path = write(tmp_path / "v.txt", text)
    with pytest.raises(UserError, match=message):
        use_word_vectors(nn.Embedding(len(VOCABULARY), 3), path, VOCABULARY)


def test_damaged_compressed_files_are_refused(tmp_path):
    packed = bytearray(gzip.compress(GLOVE.encode()))
    packed[10] = 0b111  # a kind of block that there is not
    (tmp_path / "v.txt.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"v\.txt\.gz cannot be read as text: .*invalid block type"):
        read_vectors(tmp_path / "v.txt.gz", VOCABULARY, 3)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"decoder\.embeddings = '.*none\.txt': no such file"):
        read_vectors(tmp_path / "none.txt", VOCABULARY, 3)
    (tmp_path / "v.bin").write_bytes(b"3000000 3\nin \xd0\xff\x00\x80" * 9)
    with pytest.raises(UserError, match="GloVe or word2vec text format"):
        read_vectors(tmp_path / "v.bin", VOCABULARY, 3)
