"""Beam search over tables of logits, against the tutorials' one-image loop and exhaustive search."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from showtell.core.errors import UserError
from showtell.generation.choices import Hypothesis
from showtell.generation.rules import BlockAround, repeats, rules_of
from showtell.generation.search import generate
from showtell.generation.search_params import PLAIN

END, START = 0, 1  # of the tables: the other words have no special meaning
HISTORIES = 97  # more histories than a short search has, so that few share a row


@dataclass
class Table:
    """Logits for every history of an image: they depend on all previous tokens and their order.

    `logits` (image, history, word); `history` (image, beam) is the row of each beam.
    """

    logits: Tensor
    history: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> "Table":
        return cls(logits, torch.zeros(len(logits), 1, dtype=torch.long))

    def select(self, beams: Tensor) -> "Table":
        return Table(self.logits, self.history.gather(1, beams))

    def keep_images(self, images: Tensor) -> "Table":
        return Table(self.logits[images], self.history[images])

    def after(self, tokens: Tensor) -> "Table":
        return Table(self.logits, (self.history * 7 + tokens + 1) % self.logits.shape[1])


@dataclass
class Bonuses:
    """A bonus for every history of an image, as `Table` has logits: (image, history, word)."""

    nats: Tensor

    def __call__(self, tokens: Tensor, words: int) -> Tensor:
        table = Table(self.nats, torch.zeros(tokens.shape[:2], dtype=torch.long))
        for said in (torch.full(tokens.shape[:2], START), *tokens.unbind(dim=2)):
            table = table.after(said)
        return self.nats.gather(1, table.history.unsqueeze(2).expand(-1, -1, words))

    def keep_images(self, images: Tensor) -> "Bonuses":
        return Bonuses(self.nats[images])


def step(table: Table, tokens: Tensor) -> tuple[Tensor, Table]:
    after = table.after(tokens)
    return after.logits.gather(1, after.history.unsqueeze(2).expand(-1, -1, table.logits.shape[2])), after


def random_logits(seed: int, images: int = 1, words: int = 6, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, HISTORIES, words, generator=generator) * sharpness


def found_by(
    step, state, start: Tensor, *, n_best: int = 1, suppressed=(), names=None, bonus=None, **settings
) -> list[list[Hypothesis]]:
    """The result of `generate` with these settings over PLAIN."""
    params = PLAIN.override(**settings)
    return generate(step, state, start, END, params, rules_of(params, END, suppressed), n_best, names, bonus)


def search(logits: Tensor, width: int | None, max_length: int, **options) -> list[list[Hypothesis]]:
    start = torch.full((len(logits),), START)
    beam = {} if width is None else {"beam": width}
    return found_by(step, Table.of(logits), start, **beam, max_length=max_length, **options)


def logprobs_along(logits: Tensor, sequence: Sequence[int]) -> Tensor:
    """Log probabilities (token, word) of one image's next word after each token of `sequence`, the start token
    first."""
    table, rows = Table.of(logits), []
    for token in sequence:
        row, table = step(table, torch.tensor([[token]]))
        rows.append(torch.log_softmax(row[0, 0], dim=0))
    return torch.stack(rows)


def logprobs_of(logits: Tensor, words: Sequence[int]) -> list[float]:
    """The log probability of each word of one image's sequence, given without its start token."""
    rows = logprobs_along(logits, [START, *words])[:-1]
    return rows.gather(1, torch.tensor(words, dtype=torch.long).unsqueeze(1)).squeeze(1).tolist()


def tutorial_search(logits: Tensor, width: int, max_length: int) -> tuple[list[int], float] | None:
    """One image, as the tutorials write it: k beams, a completed beam is removed and the width shrinks, plain sums."""
    k = width
    sequences, scores, complete = [[START]], [0.0], []
    for _ in range(max_length):
        candidates = []
        for sequence, score in zip(sequences, scores, strict=True):
            logprobs = logprobs_along(logits, sequence)[-1].tolist()
            candidates += [(score + value, [*sequence, word]) for word, value in enumerate(logprobs)]
        best = sorted(candidates, key=lambda candidate: -candidate[0])[:k]
        complete += [(score, sequence) for score, sequence in best if sequence[-1] == END]
        going = [(score, sequence) for score, sequence in best if sequence[-1] != END]
        k -= len(best) - len(going)
        if k == 0 or not going:
            break
        scores, sequences = [score for score, _ in going], [sequence for _, sequence in going]
    if not complete:
        return None
    score, sequence = max(complete)
    return sequence[1:-1], score


def patient_search(logits: Tensor, width: int, most: int, max_length: int, penalty: float) -> list[list[int]]:
    """One image, as Kasai et al. (2022) write it: completed captions are put aside, the next best take their places,
    until there are `most`. The completed ones, best first."""
    sequences, complete = [(0.0, [START])], []
    for _ in range(max_length):
        candidates = []
        for score, sequence in sequences:
            logprobs = logprobs_along(logits, sequence)[-1].tolist()
            candidates += [(score + value, [*sequence, word]) for word, value in enumerate(logprobs)]
        sequences = []
        for score, sequence in sorted(candidates, key=lambda candidate: -candidate[0]):
            if len(complete) == most or len(sequences) == width:
                break
            (complete if sequence[-1] == END else sequences).append((score, sequence))
        if len(complete) == most:
            break
    ranked = sorted(complete, key=lambda found: -found[0] / (len(found[1]) - 1) ** penalty)
    return [sequence[1:-1] for _, sequence in ranked]


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1, 1.5, 3]), st.sampled_from([0.0, 1.0]))
@settings(max_examples=25)
def test_patient_beam_search_equals_the_published_loop(seed, width, patience, penalty):
    """Several images together, some of which end before others, against one after the other."""
    logits, most = random_logits(seed, images=6), round(width * patience)
    options = {"length_penalty": penalty, "patience": patience}
    several = search(logits, width, 8, n_best=most, **options)
    best = search(logits, width, 8, **options)
    for image, (found, (first, *_)) in enumerate(zip(several, best, strict=True)):
        expected = patient_search(logits[image : image + 1], width, most, 8, penalty)
        assert [h.tokens for h in found if h.finished] == expected
        assert first == found[0], "a search for one caption may end before a search for several"


def everything(logits: Tensor, max_length: int) -> list[tuple[float, list[int]]]:
    """Every sequence of one image that finishes within `max_length` tokens, with its log probability, best first."""
    words = range(1, logits.shape[2])
    sequences = [list(said) for length in range(max_length) for said in product(words, repeat=length)]
    return sorted(((sum(logprobs_of(logits, [*said, END])), said) for said in sequences), reverse=True)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_beam_search_equals_the_tutorials_loop(width):
    compared = 0
    for seed in range(25):
        logits = random_logits(seed)
        expected = tutorial_search(logits, width, max_length=8)
        best = search(logits, width, max_length=8)[0][0]
        assert best.finished == (expected is not None)
        if expected is not None:
            assert best.tokens == expected[0]
            assert best.logprob == pytest.approx(expected[1], abs=1e-4)
            compared += 1
    assert compared >= 10


@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 5), st.sampled_from([0.0, 1.0, 3.0]), st.integers(1, 3))
@example(seed=5, words=3, max_length=5, penalty=1.0, n_best=1)  # a longer one wins, though behind when another ended
@example(seed=5, words=3, max_length=5, penalty=3.0, n_best=1)
@settings(max_examples=25)
def test_full_width_finds_the_best_of_all_sequences(seed, words, max_length, penalty, n_best):
    """Also where a short caption has ended and a longer one, less probable as a whole, gets a better score."""
    logits = random_logits(seed, images=8, words=words)
    width = min(words**max_length, 100)  # of three words 31 sequences end within five tokens, and 32 go on
    together = search(logits, width=width, max_length=max_length, length_penalty=penalty, n_best=n_best)
    patient = search(logits, width, max_length, length_penalty=penalty, n_best=n_best, patience=1)
    assert [[h for h in found if h.finished] for found in patient] == [
        [h for h in found if h.finished] for found in together
    ]
    for image, found in enumerate(together):
        known = everything(logits[image : image + 1], max_length)
        scored = [(value / (len(tokens) + 1) ** penalty, value, tokens) for value, tokens in known]
        expected = sorted(scored, reverse=True)[:n_best]
        finished = [h for h in found if h.finished]
        assert [h.tokens for h in finished] == [tokens for *_, tokens in expected]
        assert [h.logprob for h in finished] == pytest.approx([value for _, value, _ in expected], abs=1e-4)
        assert [h.score for h in finished] == pytest.approx([score for score, *_ in expected], abs=1e-4)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]), st.integers(1, 3), st.sampled_from([0.3, 3.0]))
@settings(max_examples=15)
def test_full_width_finds_the_best_scores_with_bonuses(seed, penalty, n_best, size):
    """A beam that is behind may still get the greatest score, so that none may be left out early."""
    logits, bonus = random_logits(seed, images=6, words=3), Bonuses(random_logits(seed + 1, images=6, words=3) * size)
    together = search(logits, 100, 4, length_penalty=penalty, n_best=n_best, bonus=bonus)
    assert search(logits, 20, 4, length_penalty=penalty, n_best=n_best, bonus=bonus, patience=5) == together
    for image, found in enumerate(together):
        scored = []
        for value, tokens in everything(logits[image : image + 1], max_length=4):
            said, own = [*tokens, END], bonus.keep_images(torch.tensor([image]))
            more = sum(float(own(torch.tensor([[said[:at]]]).long(), 3)[0, 0, said[at]]) for at in range(len(said)))
            scored.append(((value + more) / len(said) ** penalty, value, tokens))
        expected = sorted(scored, reverse=True)[:n_best]
        assert [h.tokens for h in found] == [tokens for *_, tokens in expected]
        assert [h.logprob for h in found] == pytest.approx([value for _, value, _ in expected], abs=1e-4)
        assert [h.score for h in found] == pytest.approx([score for score, *_ in expected], abs=1e-4)


PENALTIES, SIZES = st.sampled_from([0.0, 0.7]), st.sampled_from([0.0, 1.0])


@given(st.integers(0, 10**6), st.integers(1, 4), PENALTIES, st.integers(1, 3), SIZES, st.sampled_from([None, 3.0]))
@settings(max_examples=25)
def test_batched_search_equals_single_images(seed, width, penalty, n_best, size, patience):
    logits, bonus = random_logits(seed, images=5), Bonuses(random_logits(seed + 1, images=5) * size)
    options = {"length_penalty": penalty, "n_best": n_best, "block_ngrams": 2, "patience": patience}
    together = search(logits, width, 9, bonus=bonus, **options)
    alone = [
        search(logits[i : i + 1], width, 9, bonus=bonus.keep_images(torch.tensor([i])), **options)[0] for i in range(5)
    ]
    assert [[h.tokens for h in image] for image in together] == [[h.tokens for h in image] for image in alone]
    for a, b in zip(together, alone, strict=True):
        assert [h.logprob for h in a] == pytest.approx([h.logprob for h in b], abs=1e-5)


def test_logprob_is_the_sum_over_the_caption_with_its_end():
    logits = random_logits(3)
    for hypothesis in search(logits, 4, 8, n_best=4)[0]:
        said = hypothesis.tokens + [END] * hypothesis.finished
        assert hypothesis.logprob == pytest.approx(sum(logprobs_of(logits, said)), abs=1e-4)


def chain(*rows: tuple[int, list[float]], words: int = 4) -> tuple:
    """A step whose logits depend on the last token alone: `rows` gives log probabilities after each token."""
    table = torch.full((words, words), -1e9)
    for token, values in rows:
        table[token] = torch.tensor(values).log()

    def chained(state: Table, tokens: Tensor) -> tuple[Tensor, Table]:
        return table[tokens], state.after(tokens)

    return chained, Table.of(torch.zeros(1, HISTORIES, words)), torch.tensor([START])


def test_length_penalty_prefers_longer_captions():
    # Ending at once has probability 0.4; word 2, then the end, 0.6 * 0.6 = 0.36 in two tokens.
    rows = (START, [0.4, 0.0, 0.6, 0.0]), (2, [0.6, 0.0, 0.4, 0.0])
    plain = found_by(*chain(*rows), beam=3, max_length=5)[0][0]
    assert plain.tokens == [] and plain.logprob == pytest.approx(torch.tensor(0.4).log().item())
    normalised = found_by(*chain(*rows), beam=3, max_length=5, length_penalty=1.0)[0][0]
    assert normalised.tokens == [2]
    assert normalised.score == pytest.approx(torch.tensor(0.36).log().item() / 2)


def test_no_ngram_twice():
    rows = (START, [0.05, 0.0, 0.9, 0.05]), (2, [0.05, 0.0, 0.05, 0.9]), (3, [0.1, 0.0, 0.8, 0.1])
    free = found_by(*chain(*rows), beam=1, max_length=7)[0][0]
    assert free.tokens == [2, 3, 2, 3, 2, 3, 2]
    for size in (1, 2, 3):
        tokens = found_by(*chain(*rows), beam=3, max_length=7, block_ngrams=size)[0][0].tokens
        grams = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
        assert len(grams) == len(set(grams))


def test_repeats_marks_the_last_word_and_those_that_would_complete_a_known_ngram():
    tokens = torch.tensor([[[5, 6, 7, 5, 6], [5, 6, 7, 6, 5]]])
    assert repeats(tokens, 3, 9).nonzero().tolist() == [[0, 0, 6], [0, 0, 7], [0, 1, 5]]
    assert repeats(tokens, 2, 9).nonzero().tolist() == [[0, 0, 6], [0, 0, 7], [0, 1, 5], [0, 1, 6]]
    assert repeats(tokens[:, :, :2], 3, 9).nonzero().tolist() == [[0, 0, 6], [0, 1, 6]]
    assert not repeats(tokens[:, :, :0], 3, 9).any()


def test_no_word_directly_after_itself_where_ngrams_are_blocked():
    rows = (START, [0.05, 0.0, 0.9, 0.05]), (2, [0.1, 0.0, 0.7, 0.2]), (3, [0.6, 0.2, 0.1, 0.1])
    assert found_by(*chain(*rows), beam=1, max_length=4)[0][0].tokens == [2, 2, 2, 2]
    assert found_by(*chain(*rows), beam=1, max_length=4, block_ngrams=3)[0][0].tokens[:2] == [2, 3]


def test_one_or_two_words_are_not_repeated_around_a_word():
    """All captions of up to five of four words, and each word that may follow."""
    around, words = 2, 4
    for length in range(6):
        told = list(product(range(words), repeat=length))
        beams = 2 if length else 1
        tokens = torch.tensor(told, dtype=torch.long).view(len(told) // beams, beams, length)
        scores = torch.zeros(*tokens.shape[:2], words)
        forbidden = BlockAround(around)(scores, tokens).flatten(0, 1) == -torch.inf
        for before, row in zip(told, forbidden.tolist(), strict=True):
            for word, found in enumerate(row):
                said = (*before, word)
                one = length >= 2 and said[-2] == around and said[-3] == word
                two = length >= 4 and said[-3] == around and said[-5:-3] == said[-2:]
                assert found == (one or two), said


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 1.0, 2.0]))
def test_the_best_caption_is_the_first_of_several(seed, penalty):
    """A search for one caption may end before a search for several, with the same best one."""
    logits = random_logits(seed, sharpness=1.0)
    options = {"width": 4, "max_length": 8, "length_penalty": penalty}
    assert search(logits, **options, n_best=1)[0] == search(logits, **options, n_best=4)[0][:1]


def test_n_best_are_different_and_in_order():
    for penalty in (0.0, 0.7):
        for image in search(random_logits(5, images=6), 5, 8, n_best=5, length_penalty=penalty):
            assert len(image) == 5
            assert len({(tuple(h.tokens), h.finished) for h in image}) == 5
            assert image == sorted(image, key=lambda h: (not h.finished, -h.score))


def test_an_image_whose_beams_never_end_gets_its_best_unfinished_caption():
    rows = (START, [0.0, 0.0, 0.7, 0.3]), (2, [0.0, 0.0, 0.7, 0.3]), (3, [0.0, 0.0, 0.5, 0.5])
    best = found_by(*chain(*rows), beam=3, max_length=4)[0][0]
    assert not best.finished
    assert best.tokens == [2, 2, 2, 2]
    assert best.logprob == pytest.approx(4 * torch.tensor(0.7).log().item())


def test_finished_captions_rank_before_unfinished_ones():
    rows = (START, [0.0, 0.0, 0.9, 0.1]), (2, [0.0, 0.0, 1.0, 0.0]), (3, [0.9, 0.0, 0.1, 0.0])
    found = found_by(*chain(*rows), beam=2, max_length=4, n_best=2)[0]
    assert [h.finished for h in found] == [True, False]
    assert found[0].tokens == [3]


def test_suppressed_words_never_appear():
    logits = random_logits(8, images=4)
    logits[..., 3] = 50.0  # the most probable word
    for image in search(logits, 3, 8, suppressed=(1, 3), n_best=3):
        assert all(word not in (1, 3) for h in image for word in h.tokens)


def test_words_of_probability_zero_are_never_chosen():
    logits = random_logits(9, images=4)
    logits[..., 4:] = -torch.inf
    for image in search(logits, 8, 6, n_best=8):
        assert all(word < 4 for h in image for word in h.tokens)
        assert all(h.logprob > -torch.inf for h in image)


def test_fewer_sequences_than_beams():
    rows = ((START, [1.0, 0.0, 0.0, 0.0]),)
    found = found_by(*chain(*rows), beam=5, max_length=4, n_best=5, suppressed=(1, 2, 3))[0]
    assert [(h.tokens, h.finished) for h in found] == [([], True)]


def test_width_one_takes_the_best_word_each_time():
    logits = random_logits(10)
    tokens, table, token = [], Table.of(logits), START
    for _ in range(8):
        row, table = step(table, torch.tensor([[token]]))
        token = int(row.argmax())
        if token == END:
            break
        tokens.append(token)
    assert search(logits, 1, 8)[0][0].tokens == tokens


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_one_line(value):
    logits = random_logits(11, images=3)
    logits[1, 5:40, 2] = value
    with pytest.raises(UserError, match=r"not finite \(NaN\)") as caught:
        search(logits, 3, 8, n_best=2)
    assert "\n" not in str(caught.value)
