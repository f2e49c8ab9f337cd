"""Training images that resemble an image: their weights, agreement with their captions, the order of a search's
captions, files, and the bundle that evaluate writes."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage, write_params
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_model import tiny_captioner

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json, write_json
from showtell.core.tensor_files import load_tensors, save_tensors
from showtell.data.batches import captioned_images
from showtell.data.store import RowReader, RowWriter
from showtell.data.vocabulary import END
from showtell.evaluation.remember import Memory
from showtell.generation import neighbours
from showtell.generation.bundle import load_bundle, load_model, save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.choices import Hypothesis
from showtell.generation.neighbours import NEIGHBOURS, Neighbours, nearest_others, pooled
from showtell.generation.search_params import PLAIN
from showtell.metrics.cider import CiderD, DocumentFrequencies, Targets, Vectors, WeightedReferences
from showtell.metrics.ngrams import NgramIds, References, flat

CAPTIONS = [
    ["4 5 7", "4 5 7 9"], ["4 6 7"], ["4 6 8 4", "5 6", "4 6 8"], ["7 7 4", "4 5"], ["6 8"], ["4 5 7 9 10"],
]  # fmt: skip
CHANNELS = 5


def images_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, CHANNELS)).astype(np.float32)


def stored(path: Path, features: np.ndarray) -> RowReader:
    writer = RowWriter(path.with_suffix(".part"), "pooled", len(features), features.shape[1:], features.dtype)
    writer.append(features)
    writer.finish(path, [str(row) for row in range(len(features))], {})
    return RowReader(path, "pooled")


def remembered(features: np.ndarray, captions: list[list[str]] = CAPTIONS) -> Neighbours:
    said = [[*map(int, caption.split()), END] for of_image in captions for caption in of_image]
    number, lengths = np.array(list(map(len, captions))), np.array(list(map(len, said)))
    return Neighbours.of(features, number, lengths, np.concatenate(said))


def hypothesis(words: list[int], score: float, finished: bool = True) -> Hypothesis:
    return Hypothesis(words, score, score, finished, [score / (len(words) + finished)] * (len(words) + finished))


def agreement_by_hand(features: np.ndarray, image: np.ndarray, words: list[int], finished: bool, nearest: int) -> float:
    """CIDEr-D with the captions of each image, one after the other; of these, half each, the mean over the nearest
    images and what ridge regression predicts. Whitening is by eigenvectors here: the cosines are the same as by any
    other root."""
    everyone = References({i: [f"{text} {END}" for text in of_image] for i, of_image in enumerate(CAPTIONS)})
    said = " ".join(map(str, [*words, END] if finished else words))
    each = [CiderD({0: everyone.captions[i]}, others=everyone).score({0: said})[0] for i in range(len(CAPTIONS))]
    away, own = (features - features.mean(axis=0)).astype(float), (image - features.mean(axis=0)).astype(float)
    covariance = away.T @ away / len(away)
    variance, axes = np.linalg.eigh(covariance)
    axes = axes / np.sqrt(variance + neighbours.SHRINKAGE * variance.mean())
    mine, theirs = own @ axes, away @ axes
    similarity = theirs @ mine / np.linalg.norm(theirs, axis=1) / np.linalg.norm(mine)
    kept = np.argsort(-similarity)[:nearest]
    weights = np.exp(similarity[kept] / neighbours.TEMPERATURE)
    local = (weights * np.array(each)[kept]).sum() / weights.sum()
    penalty = neighbours.SHRINKAGE * covariance.trace() / len(covariance) * np.eye(len(covariance))
    slopes = np.linalg.solve(covariance + penalty, away.T @ (np.array(each) - np.mean(each)) / len(away))
    return float(0.5 * local + 0.5 * (np.mean(each) + own @ slopes))


@pytest.mark.parametrize("nearest", [1, 3, 60])
def test_agreement_is_predicted_from_that_with_the_nearest_images_and_by_ridge_regression(monkeypatch, nearest):
    monkeypatch.setattr(neighbours, "NEAREST", nearest)
    features, asked = images_of(len(CAPTIONS)), images_of(4, seed=1)
    said = [([4, 5, 7], True), ([4, 6, 8, 4], True), ([9, 9], True), ([4, 5, 7, 9], False)]
    found = [[hypothesis(words, -1.0, finished) for words, finished in said]] * len(asked)
    chosen = remembered(features).ranked(torch.from_numpy(asked), found, 2.0)
    for image, hypotheses in zip(asked, chosen, strict=True):
        for h in hypotheses:
            by_hand = agreement_by_hand(features, image, h.tokens, h.finished, min(nearest, len(CAPTIONS)))
            assert h.score == pytest.approx(-1.0 + 2.0 * by_hand, abs=0.02)  # features are kept in half precision
            assert h.logprob == -1.0


def test_kept_weights_are_those_of_the_image_and_cannot_be_changed():
    asked = images_of(2 * neighbours.RECENT, seed=5)
    memory, afresh = (remembered(images_of(len(CAPTIONS))) for _ in range(2))
    for image in (*asked, *asked[::-1], asked[0].astype(np.float64)):
        assert np.array_equal(memory.weights(image), afresh._weights(image.astype(np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        memory.weights(asked[0])[0] = 1


def in_order(found: list[Hypothesis]) -> list[Hypothesis]:
    """Finished ones by score, then the others; after all of these, in the same order, those that repeat another."""
    best_first = sorted(found, key=lambda h: (not h.finished, -h.score))
    places = range(len(best_first))
    repeats = [best_first[n].tokens in [h.tokens for h in best_first[:n]] for n in places]
    return [best_first[n] for n in sorted(places, key=lambda n: repeats[n])]


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_captions_are_ranked_by_score_and_agreement_whatever_images_are_beside(seed, images):
    rng = np.random.default_rng(seed)
    memory, asked = remembered(images_of(len(CAPTIONS), seed)), torch.from_numpy(images_of(images, seed + 1))
    found = [
        [hypothesis(rng.integers(4, 11, rng.integers(1, 6)).tolist(), -rng.random(), rng.random() < 0.7)
         for _ in range(rng.integers(1, 5))]
        for _ in range(images)
    ]  # fmt: skip
    chosen = memory.ranked(asked, found, 0.5)
    for before, after in zip(found, chosen, strict=True):
        assert sorted(h.tokens for h in before) == sorted(h.tokens for h in after)
        assert after == in_order(after)
    alone = [memory.ranked(asked[i : i + 1], found[i : i + 1], 0.5)[0] for i in range(images)]
    assert alone == chosen
    unweighted = memory.ranked(asked, found, 0.0)
    assert [[h.score for h in of_image] for of_image in unweighted] == [
        [h.score for h in in_order(of_image)] for of_image in found
    ]


def test_repeats_of_a_diverse_beam_come_last():
    found = [hypothesis(words, score) for words, score in (([4, 5], -1.0), ([6], -3.0), ([4, 5], -1.0), ([4, 7], -2.0))]
    index, vector = remembered(images_of(6)), torch.from_numpy(images_of(1, seed=1))
    ranked = index.ranked(vector, [found], 0.0)[0]
    assert [h.tokens for h in ranked] == [[4, 5], [4, 7], [6], [4, 5]]


def test_images_are_compared_by_the_mean_of_their_cells():
    cells = torch.arange(12.0).reshape(1, 3, 4)
    assert pooled(cells.half()).tolist() == pooled(cells.mean(dim=1)).tolist() == [[4.0, 5.0, 6.0, 7.0]]
    same = remembered(np.ones((len(CAPTIONS), CHANNELS), np.float32))  # as every other, after all
    (chosen,) = same.ranked(torch.ones(1, CHANNELS), [[hypothesis([4, 5], -1.0), hypothesis([10], -1.1)]], 1.0)
    assert all(np.isfinite(h.score) for h in chosen) and chosen[0].tokens == [4, 5]


def test_what_differs_among_all_images_does_not_outweigh_what_differs_among_few():
    """The first channel is much larger than the second, in which the asked image is like image 0 alone."""
    features = np.zeros((len(CAPTIONS), CHANNELS), np.float32)
    features[:, 0], features[:, 1] = [-1, 10, -10, 11, -11, 1], [3, 0, -1, -1, 0, -1]
    said = hypothesis([4, 5, 7], -1.0), hypothesis([4, 6, 7], -1.0)  # of image 0, and of image 1
    asked = torch.tensor([[3.0, 3.0, 0.0, 0.0, 0.0]])  # nearer to image 1 by the plain cosine
    (chosen,) = remembered(features).ranked(asked, [list(said)], 1.0)
    assert chosen[0].tokens == [4, 5, 7]


@given(st.integers(0, 10**6))
def test_weighted_references_are_those_of_cider_one_after_the_other(seed):
    rng = np.random.default_rng(seed)

    def captions(number: int) -> list[list[int]]:
        return [rng.integers(4, 9, rng.integers(0, 7)).tolist() for _ in range(number)]

    references, said = captions(5), captions(4)
    ids = NgramIds(*flat(references))
    frequencies = DocumentFrequencies(ids.counts, np.array([0, 0, 1, 1, 2]))
    known = Vectors.of(ids.counts, flat(references)[1], frequencies)
    ours = Vectors.of(ids.count(*flat(said)), flat(said)[1], frequencies)
    weights = rng.standard_normal(5)
    targets = Targets(known, np.zeros(5, np.int64), np.array([5]))
    expected = targets.scores(ours, np.zeros(4, np.int64), weights)
    np.testing.assert_allclose(WeightedReferences(known).scores(ours, weights), expected, atol=1e-9)


@pytest.mark.parametrize(("images", "compared"), [(2, 20), (30, 20), (30, 60)])
def test_each_training_image_finds_the_others_most_like_it(tmp_path, monkeypatch, images, compared):
    monkeypatch.setattr(neighbours, "COMPARED", compared)
    monkeypatch.setattr(neighbours, "NEAREST", 5)
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)
    features = images_of(images)
    found = nearest_others(stored(tmp_path / "all.h5", features))
    among = np.linspace(0, images - 1, min(images, compared)).round().astype(int)
    centre, whitening, _ = neighbours._whiten(features[among])
    white = (features - centre) @ whitening
    cosines = white @ white.T / np.outer(*[np.linalg.norm(white, axis=1)] * 2)
    for image, (rows, weights) in enumerate(zip(found.rows, found.weights, strict=True)):
        others = among[among != image]
        expected = others[np.argsort(-cosines[image][others])][:5]
        counting = weights > 0
        assert rows[counting].tolist() == expected.tolist()
        own = np.exp(cosines[image][expected] / neighbours.TEMPERATURE)
        np.testing.assert_allclose(weights[counting], own / own.sum(), rtol=1e-3)
    with pytest.raises(UserError, match=r"reinforce\.consensus compares .* with others, and here is 1"):
        nearest_others(stored(tmp_path / "one.h5", features[:1]))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)


def second_choice(plain: Captioner | None = None, **settings) -> tuple[Captioner, list[np.ndarray], list[list[str]]]:
    """A captioner that remembers, for each of six pictures, the caption that its search with these settings ranks
    second; the pictures, and the words of those captions."""
    plain, pictures = plain or tiny_captioner(), [picture(seed) for seed in range(6)]
    second = [found[1].words for found in plain.n_best(pictures, 2, **{"beam": 4, "max_length": 6, **settings})]
    index = {word: number for number, word in enumerate(plain.model.vocabulary.words)}
    texts = [[" ".join(str(index[word]) for word in words)] for words in second]
    squares = np.stack([plain.model.transform(Image.fromarray(p)) for p in pictures])
    features = pooled(plain.encode(torch.from_numpy(squares)).features[0])
    return Captioner(plain.model, PLAIN, neighbours=remembered(features, texts)), pictures, second


def test_a_caption_that_agrees_with_those_of_similar_images_is_chosen(tmp_path):
    captioner, pictures, second = second_choice()
    settings = {"beam": 4, "max_length": 6}
    plain = captioner.n_best(pictures, 4, **settings)
    chosen = captioner.n_best(pictures, 4, **settings, consensus=100.0)
    assert [found[0].words for found in plain] != second == [found[0].words for found in chosen]
    for before, after in zip(plain, chosen, strict=True):
        assert {c.text for c in before} == {c.text for c in after}
        assert after[0].score > before[0].score and after[0].logprob == before[1].logprob
    assert [c.words for c in captioner.caption(pictures, **settings, consensus=100.0)] == second
    drawn = {"method": "sample", "seed": 3, "max_length": 6}  # samples are not ranked
    stored = (captioner.searching(captioner.search.override(consensus=weight)) for weight in (0.0, 100.0))
    texts = [[c.text for c in one.caption(pictures, **drawn)] for one in stored]
    assert texts[0] == texts[1]

    save_model(captioner.model, tmp_path / "source", notes={})
    search = PLAIN.override(**settings, consensus=100.0)
    serve_model(tmp_path / "source", tmp_path / "model", search, {}, neighbours=captioner.neighbours)
    assert json.loads((tmp_path / "model/config.json").read_text())["neighbours"] == NEIGHBOURS
    assert [c.words for c in Captioner.load(tmp_path / "model").caption(pictures)] == second
    serve_model(tmp_path / "model", tmp_path / "model", PLAIN, {})  # without them
    assert not (tmp_path / "model" / NEIGHBOURS).exists() and load_bundle(tmp_path / "model").neighbours is None


def test_all_captions_of_a_patient_search_are_compared():
    """With a beam of 1 the caption that agrees is the second to finish, so that patience alone finds it."""
    plain, patient = deepcopy(tiny_captioner()), {"beam": 1, "max_length": 12, "patience": 3}
    with torch.no_grad():
        plain.model.decoder.output.bias[END] += 2  # so that captions end
    captioner, pictures, second = second_choice(plain, **patient)
    assert [c.words for c in captioner.caption(pictures, **patient, consensus=100.0)] == second
    impatient = captioner.caption(pictures, **{**patient, "patience": 0}, consensus=100.0)
    assert all(c.words != words for c, words in zip(impatient, second, strict=True))


def test_the_hash_of_the_settings_changes_with_what_changes_captions():
    captioner, _, _ = second_choice()
    other = remembered(images_of(6), CAPTIONS)
    plain, comparing, fp32 = (captioner.searching(PLAIN.override(**changed)) for changed in (
        {}, {"consensus": 1.0, "beam": 4}, {"precision": "fp32"},
    ))  # fmt: skip
    assert plain.settings_hash() == captioner.settings_hash() == fp32.settings_hash()
    unused, used = (Captioner(plain.model, own.search, neighbours=other) for own in (plain, comparing))
    assert unused.settings_hash() == plain.settings_hash()
    assert len({plain.settings_hash(), comparing.settings_hash(), used.settings_hash()}) == 3


def test_a_model_that_remembers_nothing_cannot_compare():
    with pytest.raises(UserError, match=r"consensus = 0\.5: this model remembers no training images; set it to 0"):
        tiny_captioner().caption([picture(0)], consensus=0.5)


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path):
    captioner, _, _ = second_choice()
    search = PLAIN.override(consensus=1.0)
    save_model(captioner.model, tmp_path / "source", notes={})
    serve_model(tmp_path / "source", tmp_path / "model", search, {}, neighbours=captioner.neighbours)
    path = tmp_path / "model" / NEIGHBOURS
    whole, words = load_tensors(path), len(captioner.model.vocabulary)
    for changed, reason in (
        ({"number": whole["number"] + 1}, "captions are incomplete"),
        ({"lengths": whole["lengths"][:-1]}, "captions are incomplete"),
        ({"tokens": -whole["tokens"]}, "tokens are negative"),
        ({"tokens": whole["tokens"] + words}, f"words that the vocabulary of {words} does not have"),
        ({"whitened": whole["whitened"][:, 1:]}, "sizes differ"),
        ({"whitening": whole["whitening"][:, 1:]}, "sizes differ"),
        ({"centre": whole["centre"].long()}, "a tensor has another shape or type"),
        (
            {
                "centre": whole["centre"][:2], "whitening": whole["whitening"][:2, :2],
                "whitened": whole["whitened"][:, :2],
            },
            "features of 2 channels, the encoder",
        ),
        ({"more": whole["centre"] + 1}, "unexpected keyword argument 'more'"),
    ):
        save_tensors(path, {**whole, **changed})
        with pytest.raises(UserError, match=reason) as error:
            load_bundle(tmp_path / "model")
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    one = {name: whole[name][:1] for name in ("whitened", "number", "lengths")}
    save_tensors(path, {**whole, **one, "tokens": whole["tokens"][: int(whole["lengths"][0])]})
    with pytest.raises(UserError, match="there are 1, document frequencies need two"):
        load_bundle(tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    write_json(tmp_path / "model/config.json", {**config, "neighbours": None})
    with pytest.raises(UserError, match=r"search.consensus needs neighbours.safetensors, and none is named"):
        load_bundle(tmp_path / "model")


def test_evaluate_remembers_the_training_images(pipeline):
    served = load_bundle(pipeline / "data/model")
    entries = json.loads((pipeline / "data/captions/train.json").read_text())
    kept = served.neighbours.remembered
    assert kept.number.tolist() == [len(entry["words"]) for entry in entries]
    first = served.model.vocabulary.encode(entries[0]["words"][0])
    assert [*first, END] == kept.tokens[: kept.lengths[0]].tolist()


def test_stored_features_are_used_where_the_encoder_is_the_same(copy_pipeline, monkeypatch):
    folder = copy_pipeline("data")
    monkeypatch.chdir(folder)
    model = load_model(paths.TRAIN_MODEL)
    memory = Memory(captioned_images("train"), paths.split_features("train"), 5)
    encode, encoded = type(model).encode, []

    def counted(self, pixels):
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(type(model), "encode", counted)
    read = memory.of(model).remembered
    assert encoded == []
    search = PLAIN.override(consensus=1.0)
    last, first = (memory.captioner(folder, search) for folder in (paths.REINFORCE_MODEL, paths.TRAIN_MODEL))
    assert memory.captioner(paths.TRAIN_MODEL, search).neighbours is first.neighbours is not last.neighbours
    encoded.clear()
    monkeypatch.setattr("showtell.evaluation.remember.feature_attrs", lambda *_: {})
    computed = memory.of(model).remembered
    assert encoded == [5]
    assert len(read.whitened) == 5 and computed.tokens.equal(read.tokens)
    torch.testing.assert_close(read.whitened, computed.whitened, atol=0.01, rtol=0)  # the store is in half precision


def test_a_sweep_that_compares_with_training_images_does_not_publish_their_captions(copy_pipeline, capsys):
    folder = copy_pipeline("data", "metrics")
    others = [{"consensus": 1.0}, {"neighbour_ngrams": 0.5}, {"neighbour_bonus": 2.0}, {"block_around": "absent"}]
    others += [{"patience": 2.0}]
    unused = {"consensus": 0.0, "neighbour_ngrams": 0.0, "neighbour_bonus": 0.0}
    write_params(folder, search=unused, sweep={"beams": [2], "length_penalties": [0.0], "others": others})
    run_stage("evaluate", folder)
    served = load_bundle(folder / "data/model")
    assert served.search.consensus == 0 and served.neighbours is None
    _, *rows = (folder / "metrics/sweep.tsv").read_text().splitlines()
    assert len(rows) == 7  # these, the beam and the served one
    assert "block_around: absent is not a word of the vocabulary, and forbids nothing" in capsys.readouterr().err
    named = ("consensus 1.0", "neighbour_ngrams 0.5", "neighbour_bonus 2.0", "block_around absent", "patience 2.0")
    for changed in named:
        assert [row.split("\t")[0] for row in rows if changed in row] == [f"beam {served.search.beam}, {changed}"]
