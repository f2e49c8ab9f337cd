"""Every method of generation, by properties that relate them, on tables of logits that can be enumerated."""

import pytest
import torch
from conftest import tiny_params
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search import END, START, everything, logprobs_along, logprobs_of, random_logits, search

from showtell.core.errors import UserError
from showtell.generation.choices import draws_of
from showtell.generation.rules import LeastLength, Nucleus, TopK
from showtell.generation.search_params import PLAIN, SearchParams, SearchSection, SweepParams

SEEDS = st.integers(0, 10**6)
SAMPLE = {"method": "sample"}


def tokens_of(found):
    return [[h.tokens for h in image] for image in found]


@given(SEEDS, st.integers(1, 5), st.sampled_from([0.0, 0.7]), st.integers(1, 3))
@settings(max_examples=25)
def test_a_diverse_beam_of_one_group_is_a_beam(seed, width, penalty, n_best):
    logits, n_best = random_logits(seed, images=4), min(n_best, width)
    options = {"length_penalty": penalty, "n_best": n_best, "block_ngrams": 2}
    diverse = search(logits, width, 8, method="diverse_beam", groups=1, diversity=2.0, **options)
    assert diverse == search(logits, width, 8, **options)


@given(SEEDS, st.integers(1, 3), st.integers(2, 3))
@settings(max_examples=25)
def test_groups_without_penalty_are_equal_beams(seed, width, groups):
    logits = random_logits(seed, images=3)
    beam = {"method": "diverse_beam", "groups": groups, "diversity": 0.0}
    diverse = search(logits, width * groups, 8, **beam, n_best=width * groups)
    alone = search(logits, width, 8, n_best=width)
    assert diverse == [image * groups if width == 1 else image + ranked(image, groups - 1) for image in alone]


def ranked(image, times):
    """Every hypothesis as often, the best first."""
    return [h for h in image for _ in range(times)]


DIVERSE = {"method": "diverse_beam", "groups": 2, "diversity": 0.5}
METHODS = [{}, {"patience": 2}, DIVERSE, {"method": "sample", "temperature": 1.5}]


@given(SEEDS, st.sampled_from(METHODS), st.sampled_from([0, 2]))
@settings(max_examples=25)
def test_each_token_has_the_log_probability_of_its_step(seed, method, blocked):
    """Each hypothesis is decoded again; ten images, so that some end before others."""
    logits, beam = random_logits(seed, images=10), None if "sample" in method.values() else 4
    found = search(logits, beam, 7, n_best=3, block_ngrams=blocked, **method)
    for image, hypotheses in enumerate(found):
        for h in hypotheses:
            told = logprobs_of(logits[image : image + 1], h.tokens + [END] * h.finished)
            assert h.logprobs == pytest.approx(told, abs=1e-5) and sum(h.logprobs) == pytest.approx(h.logprob, abs=1e-4)


def test_groups_avoid_the_words_of_earlier_groups():
    """By hand: words 1 to 3 have probabilities 0.6, 0.3, 0.1, whatever came before, and the third token is the end."""
    logits = torch.log(torch.tensor([1e-9, 0.6, 0.3, 0.1])).expand(1, 97, 4).clone()
    found = search(logits, 3, 2, method="diverse_beam", groups=3, diversity=5.0, n_best=3)[0]
    assert sorted(h.tokens for h in found) == [[1, 1], [2, 2], [3, 3]]
    assert found[0].logprob == pytest.approx(2 * torch.tensor(0.6).log().item(), abs=1e-5)  # without the penalty
    slight = search(logits, 3, 2, method="diverse_beam", groups=3, diversity=0.01, n_best=3)[0]
    assert [h.tokens for h in slight] == [[1, 1]] * 3


def plain_diverse_beam(
    logits: torch.Tensor, width: int, groups: int, diversity: float, max_length: int, once: bool
) -> list[list[int]]:
    """One image, as Vijayakumar et al. (2016) write it: the sequences that finish. `once`: no word twice in one."""
    living, finished = [[(0.0, [START])] for _ in range(groups)], [[] for _ in range(groups)]
    for _ in range(max_length):
        said = [0] * logits.shape[2]  # beams of earlier groups that say a word at this step
        for group in range(groups):
            candidates = []
            for total, sequence in living[group]:
                logprobs = logprobs_along(logits, sequence)[-1].tolist()
                allowed = [word for word in range(len(logprobs)) if not (once and word in sequence[1:])]
                candidates += [(total + logprobs[word], [*sequence, word]) for word in allowed]
            candidates.sort(key=lambda found: diversity * said[found[1][-1]] - found[0])
            best = candidates[: width - len(finished[group])]
            for _, sequence in best:
                said[sequence[-1]] += 1
            finished[group] += [found for found in best if found[1][-1] == END]
            living[group] = [found for found in best if found[1][-1] != END]
    return [sequence[1:-1] for group in finished for _, sequence in group]


@given(SEEDS, st.sampled_from([4, 6]), st.integers(2, 3), st.integers(1, 4), st.sampled_from([0.3, 1.0, 3.0]))
@settings(max_examples=30)
def test_a_diverse_beam_equals_the_papers_loop(seed, words, groups, width, diversity):
    """Of four words, each said once, there are soon fewer continuations than places."""
    logits, once = random_logits(seed, words=words, sharpness=1.0), words == 4
    beam = {"method": "diverse_beam", "groups": groups, "diversity": diversity, "n_best": groups * width}
    found = search(logits, groups * width, 5, block_ngrams=int(once), **beam)[0]
    expected = plain_diverse_beam(logits, width, groups, diversity, 5, once)
    assert sorted(h.tokens for h in found if h.finished) == sorted(expected)


@given(SEEDS, st.integers(2, 3), st.integers(2, 3), st.sampled_from([0.0, 0.2, 1.0]))
@settings(max_examples=25)
def test_groups_repeat_one_another_only_after_all_that_differ(seed, groups, width, diversity):
    logits = random_logits(seed, images=3)
    beam = {"method": "diverse_beam", "groups": groups, "diversity": diversity}
    for image in search(logits, groups * width, 6, **beam, n_best=groups * width):
        said = [tuple(h.tokens) for h in image]
        assert len(set(said[: len(set(said))])) == len(set(said))


@given(SEEDS, st.integers(1, 4))
@settings(max_examples=25)
def test_sampling_from_one_word_is_greedy(seed, samples):
    logits = random_logits(seed, images=4)
    greedy = search(logits, 1, 8, block_ngrams=2)
    assert search(logits, None, 8, method="greedy", block_ngrams=2) == greedy
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}):
        drawn = search(logits, None, 8, **SAMPLE, **narrow, seed=seed, n_best=samples, block_ngrams=2)
        assert [image[0].tokens for image in greedy] == [image[0].tokens for image in drawn]
        assert all(h == image[0] for image in drawn for h in image) and all(len(image) == samples for image in drawn)
        logprobs = [image[0].logprob for image in greedy]
        assert [image[0].logprob for image in drawn] == pytest.approx(logprobs, abs=1e-5)  # those of the model


@given(SEEDS, st.sampled_from([0.0, 0.2, 2.0]), st.integers(1, 6))
@settings(max_examples=25)
def test_fewer_captions_of_a_diverse_beam_are_the_first_of_all(seed, diversity, n_best):
    options = {"method": "diverse_beam", "groups": 2, "diversity": diversity}
    logits = random_logits(seed, images=5)
    first, everything = (tokens_of(search(logits, 6, 8, n_best=most, **options)) for most in (n_best, 6))
    assert first == [image[:n_best] for image in everything]


@given(SEEDS)
@settings(max_examples=15)
def test_samples_that_have_ended_do_not_depend_on_max_length(seed):
    logits = random_logits(seed, images=5, sharpness=0.5)
    short, long = (search(logits, None, most, n_best=4, names=range(5), **SAMPLE, seed=seed) for most in (5, 9))
    pairs = [(a, b) for one, two in zip(short, long, strict=True) for a, b in zip(one, two, strict=True) if a.finished]
    assert pairs and all(a.tokens == b.tokens for a, b in pairs)


@given(SEEDS)
@settings(max_examples=15)
def test_samples_depend_on_the_seed_and_not_on_the_batch_or_their_number(seed):
    logits, names = random_logits(seed, images=5, sharpness=0.5), [7, 1, 2**40, 3, 4]
    options = {**SAMPLE, "seed": seed, "temperature": 1.5}
    together = search(logits, None, 9, n_best=3, names=names, **options)
    assert search(logits, None, 9, n_best=3, names=names, **options) == together
    for place, name in enumerate(names):
        alone = search(logits[place : place + 1], None, 9, names=[name], **options)[0]
        assert alone[0].tokens == together[place][0].tokens
    other = search(logits, None, 9, n_best=3, names=names, **{**options, "seed": seed + 1})
    assert tokens_of(other) != tokens_of(together)


def test_sample_frequencies_equal_probabilities():
    logits = random_logits(4, words=3, sharpness=1.0)
    expected = {tuple(tokens): torch.tensor(value).exp().item() for value, tokens in everything(logits, 3)}
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(40):
        for h in search(logits, None, 3, **SAMPLE, seed=seed, n_best=100)[0]:
            if h.finished:
                counts[tuple(h.tokens)] = counts.get(tuple(h.tokens), 0) + 1
    for tokens, probability in expected.items():
        deviation = (probability * (1 - probability) / 4000) ** 0.5
        assert abs(counts.get(tokens, 0) / 4000 - probability) < 5 * deviation + 1e-3


def test_random_draws_depend_on_seed_and_name_only():
    many = draws_of(3, [5, 6], samples=4, steps=7)
    assert many.shape == (2, 4, 7) and many.min() >= 0 and many.max() < 1
    assert torch.equal(draws_of(3, [6], samples=1, steps=7)[0, 0], many[1, 0])
    assert not torch.equal(many[0], many[1]) and not torch.equal(draws_of(4, [5], 4, 7)[0], many[0])


def test_top_k_and_nucleus_keep_the_most_probable_words():
    scores = torch.log(torch.tensor([[[0.1, 0.4, 0.3, 0.2]]]))
    said = torch.zeros(1, 1, 0)
    kept = {f"k{k}": (TopK(k)(scores, said) > -torch.inf)[0, 0].tolist() for k in (1, 2, 4, 9)}
    assert kept == {"k1": [0, 1, 0, 0], "k2": [0, 1, 1, 0], "k4": [1, 1, 1, 1], "k9": [1, 1, 1, 1]}
    for mass, words in ((0.3, [0, 1, 0, 0]), (0.45, [0, 1, 1, 0]), (0.75, [0, 1, 1, 1]), (0.95, [1, 1, 1, 1])):
        assert (Nucleus(mass)(scores, said) > -torch.inf)[0, 0].tolist() == words
    quarters = torch.zeros(1, 1, 4)
    assert (Nucleus(0.5)(quarters, said) > -torch.inf)[0, 0].tolist() == [1, 1, 0, 0]  # exactly the mass is enough


@given(SEEDS, st.integers(1, 6), st.sampled_from(["greedy", "beam", "diverse_beam", "sample"]))
@settings(max_examples=30)
def test_captions_are_between_min_and_max_length(seed, least, method):
    logits = random_logits(seed, images=3)
    own = {"beam": 2, "groups": 2} if method == "diverse_beam" else {}
    for image in search(logits, None, 7, method=method, min_length=least, **own):
        for h in image:
            assert least <= len(h.tokens) + h.finished <= 7


def test_the_end_is_allowed_before_min_length_if_no_other_word_is():
    scores = torch.tensor([[[0.0, -torch.inf, -torch.inf], [0.0, -1.0, -torch.inf]]])
    ruled = LeastLength(5, END)(scores.clone(), torch.zeros(1, 2, 1))
    assert ruled[0, 0].tolist() == [0.0, -torch.inf, -torch.inf]
    assert ruled[0, 1].tolist() == [-torch.inf, -1.0, -torch.inf]


def test_searches_without_a_result_are_an_error():
    logits = torch.full((2, 97, 4), 0.0)
    with pytest.raises(UserError, match="nothing that may be said"):
        search(logits, 2, 4, suppressed=(0, 1, 2, 3))


@given(SEEDS, st.sampled_from([{"beam": 3}, {"method": "diverse_beam", "beam": 4, "groups": 2}, {**SAMPLE, "seed": 1}]))
@settings(max_examples=15)
def test_every_method_gives_log_probabilities_of_the_model(seed, way):
    logits = random_logits(seed, images=2)
    for image, found in enumerate(search(logits, None, 6, n_best=2, **way)):
        for h in found:
            total = sum(logprobs_of(logits[image : image + 1], h.tokens + [END] * h.finished))
            assert h.logprob == pytest.approx(total, abs=1e-4)


def section(**changes) -> SearchSection:
    return SearchSection.model_validate({**tiny_params()["search"], **changes})


@pytest.mark.parametrize(
    ("beam", "changes", "message"),
    [
        (
            5, {"method": "greedy"},
            "beam = 5: it does nothing with search.method greedy, but with beam and diverse_beam; leave it out "
            "(in params.yaml: null)",
        ),
        (5, {"method": "sample", "temperature": 1.0, "seed": 0}, "beam = 5: it does nothing"),
        (None, {}, "beam = null: search.method beam needs it"),
        (5, {"method": "diverse_beam", "groups": 2, "diversity": 0.5}, "beam = 5: cannot be cut"),
    ],
)
def test_a_beam_that_does_not_fit_the_method_is_refused(beam, changes, message):
    with pytest.raises(UserError) as caught:
        SearchParams.of(beam, section(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.5}, r"nothing with search.method beam, but with sample; leave it out \(in params.yaml"),
        ({"method": "sample", "temperature": 0.5}, "search.method sample needs it"),
        ({"method": "sample", "seed": 0, "temperature": 0.0}, "greater than or equal to 0.000001"),
        ({"method": "diverse_beam", "groups": 2}, "search.method diverse_beam needs it"),
        ({"method": "greedy", "patience": 2}, "nothing with search.method greedy, but with beam; leave it out"),
        ({"patience": 0.5}, "must be 1 to 20, or 0: a beam that finishes is not replaced"),
        ({"patience": 21}, "less than or equal to 20"),
        ({"min_length": 9}, "less than min_length, 9"),
    ],
)
def test_keys_that_do_not_fit_the_method_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        section(**changes)


def test_keys_of_other_methods_may_be_absent_or_null():
    keys = ("groups", "diversity", "temperature", "top_k", "top_p", "seed")
    bare = {key: value for key, value in tiny_params()["search"].items() if key not in keys}
    assert SearchParams.of(2, SearchSection.model_validate(bare)) == SearchParams.of(2, section())
    assert SearchParams.of(1, section(method="greedy")).beam == 1


def test_another_method_sets_its_defaults_and_unsets_the_others():
    sampled = PLAIN.override(method="sample", temperature=0.7)
    assert (sampled.beam, sampled.temperature, sampled.seed, sampled.groups) == (None, 0.7, 0, None)
    diverse = sampled.override(method="diverse_beam", beam=6)
    assert (diverse.beam, diverse.groups, diverse.diversity, diverse.temperature) == (6, 6, 0.5, None)
    assert diverse.override(method="beam") == PLAIN.override(beam=6)
    assert PLAIN.override(patience=2).override(method="greedy").patience is None
    assert PLAIN.override(patience=2).override(patience=0) == PLAIN
    with pytest.raises(UserError, match="wings is not a setting of the search; there are method"):
        PLAIN.override(wings=2)


def test_a_sweep_compares_methods_and_refuses_invalid_ones():
    others = [{"method": "sample", "temperature": 0.5}, {"method": "diverse_beam", "beam": 4, "groups": 2}]
    sweep = SweepParams(beams=[1, 3], length_penalties=[0.0], others=others)
    told = [search.described() for search in sweep.settings(PLAIN)]
    assert told[:2] == ["beam 1", "beam 3"]
    assert told[2] == "sampled, temperature 0.5, seed 0" and told[3].startswith("diverse beam 4 in 2 groups")
    with pytest.raises(ValueError, match="wings"):
        SweepParams(beams=[1], length_penalties=[0.0], others=[{"wings": 2}])


def test_what_a_sweep_changes_is_checked_against_the_search():
    warm = SweepParams(beams=[1], length_penalties=[0.0], others=[{"temperature": 0.5}])
    told = [search.described() for search in warm.settings(PLAIN.override(method="sample"))]
    assert "sampled, temperature 0.5, seed 0" in told
    with pytest.raises(UserError, match=r"params\.yaml: sweep\.others: temperature = 0\.5: it does nothing"):
        warm.settings(PLAIN)
    long = SweepParams(beams=[1], length_penalties=[0.0], others=[{"min_length": 20}])
    with pytest.raises(UserError, match=r"sweep\.others: max_length = 10: less than min_length, 20"):
        long.settings(PLAIN.override(max_length=10))
