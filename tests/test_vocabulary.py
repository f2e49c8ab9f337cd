"""Vocabulary and token files: counts from train only, fixed special tokens, reproducible."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.data import captions
from showtell.data.captions import CaptionFile
from showtell.data.datasets.karpathy import Record
from showtell.data.vocabulary import END, PAD, START, UNK, VocabParams, Vocabulary, build_captions, training_words

WORDS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g"]), max_size=6), max_size=8)


def params(**changes) -> VocabParams:
    plain = {
        "tokenizer": "given",
        "min_count": 1,
        "max_size": None,
        "max_length": 50,
        "long": "cut",
        "captions_per_image": None,
    }
    return VocabParams(**plain | changes)


def counted(captions: list[list[str]]) -> Counter[str]:
    return Counter(word for words in captions for word in words)


def record(image_id: int, split: str, *captions: str) -> Record:
    return Record(image_id, f"{image_id}.jpg", split, list(captions), [caption.split() for caption in captions])


@pytest.fixture
def built(tmp_path):
    """A function: the vocabulary of records, and the file of each split."""

    def build(records, params: VocabParams) -> tuple[Vocabulary, dict[str, CaptionFile]]:
        vocabulary, _ = build_captions(records, params, tmp_path)
        return vocabulary, {split: CaptionFile(tmp_path / f"{split}.json") for split in ("train", "val", "test")}

    return build


def tokens_of(file: CaptionFile, image: int) -> list[list[int]]:
    return [tokens.tolist() for tokens in file.tokens(range(file.first[image], file.first[image] + file.number[image]))]


RECORDS = [
    record(1, "train", "a dog runs", "the dog runs fast now"),
    record(2, "val", "a cat sits"),
    record(3, "test", "a whale whale whale swims"),
]


def test_special_tokens_have_fixed_ids():
    vocabulary = Vocabulary(["dog"], [3])
    assert [vocabulary.words[i] for i in (PAD, START, END, UNK)] == ["<pad>", "<start>", "<end>", "<unk>"]
    assert vocabulary.encode(["dog"]) == [4] and len(vocabulary) == 5


def test_order_is_count_then_word():
    vocabulary = Vocabulary.build(Counter("bcac"), 1, None)
    assert vocabulary.words[4:] == ["c", "a", "b"] and vocabulary.counts[4:] == [2, 1, 1]


def test_rare_words_and_words_beyond_the_size_are_unknown():
    counts = {"a": 5, "b": 3, "c": 2}
    assert Vocabulary.build(counts, 3, None).encode("abc") == [4, 5, UNK]
    assert len(Vocabulary.build(counts, 1, 6)) == 6


def test_val_and_test_words_are_not_counted(built):
    vocabulary, _ = built(RECORDS, params())
    assert "dog" in vocabulary and "cat" not in vocabulary and "whale" not in vocabulary
    changed = [RECORDS[0], RECORDS[1], record(3, "test", "other words altogether")]
    assert built(changed, params())[0].hash == vocabulary.hash


def test_entries_keep_references_and_all_words(built):
    vocabulary, splits = built(RECORDS, params(max_length=2, captions_per_image=1))
    (train,) = splits["train"]
    assert train["references"] == ["a dog runs", "the dog runs fast now"]
    assert train["words"][1] == ["the", "dog", "runs", "fast", "now"]
    assert [vocabulary.decode(t) for t in tokens_of(splits["train"], 0)] == [["a", "dog"]]
    assert tokens_of(splits["train"], 0)[0][:1] == [START] and tokens_of(splits["train"], 0)[0][-1:] == [END]
    assert tokens_of(splits["val"], 0) == [[START, *vocabulary.encode(["a", "cat"]), END]]
    assert "fast" not in vocabulary  # captions that are not trained on are not counted


def test_long_captions_are_cut_or_dropped_but_an_image_stays():
    words = [["a"] * 9, ["b"] * 4, ["c"] * 2]
    assert training_words(words, params(max_length=4)) == [["a"] * 4, ["b"] * 4, ["c"] * 2]
    assert training_words(words, params(max_length=4, long="drop")) == [["b"] * 4, ["c"] * 2]
    assert training_words(words, params(max_length=1, long="drop")) == [["c"]]


def test_tokenizers(built):
    records = [
        Record(i, f"{i}.jpg", s, ["Dogs don't fly."], [["given"]]) for i, s in enumerate(["train", "val", "test"])
    ]
    assert built(records, params())[1]["train"][0]["words"] == [["given"]]
    assert built(records, params(tokenizer="unicode"))[1]["val"][0]["words"] == [["dogs", "don't", "fly"]]
    assert built(records, params(tokenizer="nltk"))[1]["test"][0]["words"] == [["dogs", "do", "n't", "fly"]]


def test_an_empty_split_is_refused(built):
    with pytest.raises(UserError, match="no image in split 'test'"):
        built(RECORDS[:2], params())


def test_a_vocabulary_without_words_is_refused(built):
    with pytest.raises(UserError, match=r"no word occurs 9 times.*min_count"):
        built(RECORDS, params(min_count=9))


def test_special_tokens_in_captions_are_unknown_words():
    vocabulary = Vocabulary.build({"<end>": 3, "a": 1}, 1, None)
    assert vocabulary.encode(["<start>", "<end>", "a"]) == [UNK, UNK, 4]


def test_decode_stops_at_end_and_keeps_unknowns():
    vocabulary = Vocabulary(["dog", "猫", "犬"], [1, 1, 1])
    assert vocabulary.decode([START, 4, UNK, PAD, END, 4]) == ["dog", "<unk>"]
    assert vocabulary.caption([4, 5, 6, END]) == "dog 猫犬"


@given(WORDS)
def test_known_words_round_trip(captions):
    vocabulary = Vocabulary.build(counted(captions), 1, None)
    for words in captions:
        assert vocabulary.decode(vocabulary.encode(words)) == words


@given(WORDS, st.randoms())
def test_order_of_captions_does_not_matter(captions, random):
    shuffled = random.sample(captions, len(captions))
    assert Vocabulary.build(counted(captions), 1, None).words == Vocabulary.build(counted(shuffled), 1, None).words


@given(WORDS)
def test_saving_a_loaded_vocabulary_gives_the_same_bytes(tmp_path_factory, captions):
    path = tmp_path_factory.getbasetemp() / "vocab.json"
    vocabulary = Vocabulary.build(counted(captions), 1, None)
    vocabulary.save(path)
    first = path.read_bytes()
    loaded = Vocabulary.load(path)
    loaded.save(path)
    assert path.read_bytes() == first
    assert (loaded.words, loaded.counts, loaded.hash) == (vocabulary.words, vocabulary.counts, vocabulary.hash)


SIGNS = ["<pad>", "<start>", "<end>", "<unk>"]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"words": ["a"]},
        {"words": [*SIGNS, "a", "a"], "counts": [0] * 6},
        {"words": [*SIGNS, 5], "counts": [0] * 5},
        {"words": [*SIGNS, ["a"]], "counts": [0] * 5},
        {"words": [*SIGNS, "a"], "counts": [0, 0, 0, 0, "many"]},
        {"words": [*SIGNS, "a"], "counts": 5},
        {"words": [*SIGNS, "a"]},
    ],
)
def test_other_files_than_vocabularies_are_refused(tmp_path, content):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not a vocabulary"):
        Vocabulary.load(path)


def test_a_changed_byte_of_a_captions_file_is_noticed(built, tmp_path):
    """Bytes of the lines, of the arrays and of what HDF5 writes about them."""
    _, files = built(RECORDS, params())
    path = files["train"].path
    entries, tokens = list(files["train"]), tokens_of(files["train"], 0)

    def read() -> tuple:
        captions._sound.clear()  # as a new process
        file = CaptionFile(path)
        return [*file], [*file[:]], tokens_of(file, 0), list(file.image_ids), list(file.files)

    whole = read()
    assert whole[:3] == (entries, entries, tokens)
    unnoticed = []
    for changed, every in ((path, 5), (path.with_suffix(".h5"), 61)):
        content = changed.read_bytes()
        for place in range(0, len(content), every):
            changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            try:
                if read() != whole:
                    unnoticed.append((changed.name, place))
            except UserError as error:
                assert "damaged" in str(error) or "does not hold" in str(error) or "made for" in str(error)
        changed.write_bytes(content)
    assert unnoticed == []
