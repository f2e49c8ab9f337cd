"""The beam search of one image as an ONNX graph: the same numbers as `search.generate`, for the best caption.

In ONNX's text format. Shapes: beam = live beams, step = tokens generated, `<start>` included. A finished beam is
replaced if the search has patience, as in `beams.py`; of the finished ones only the best is kept. Scores that rank
captions are float64, as they are in Python. Constants are named as in `constants`.
"""

import numpy as np

from showtell.data.vocabulary import END, START, Vocabulary
from showtell.generation.graphs.torch_programs import Names
from showtell.generation.search_params import SearchParams

ENDLESS = np.iinfo(np.int64).max  # as the end of a slice

# Starts from the encoder's outputs. `Loop` carries: tokens and log probabilities of the live beams, how many beams may
# still finish, the best finished caption, the beams that are continued, and the decoder's state.
OUTER = """
whole () => () {{
 width = Max(beam, one)
 {places}
 said, living, left, best, best_logprob, best_score, continued{ends} = Loop(
  max_length, true, start, surely, places, no_tokens, infinitely_unlikely, worst, first_beam{starts})
 finished = Greater(best_score, worst)
 tokens, logprob = If(finished) <
  then_branch = ended () => (int64[length] ended_tokens, float ended_logprob) {{
   ended_tokens = Slice(best, from_1, to_last, from_0)
   ended_logprob = Identity(best_logprob)
  }},
  else_branch = unended () => (int64[length] unended_tokens, float unended_logprob) {{
   likeliest = ArgMax<axis=0, keepdims=0>(living)
   unended_logprob = Gather<axis=0>(living, likeliest)
   said_most = Gather<axis=0>(said, likeliest)
   unended_tokens = Slice(said_most, from_1, to_end, from_0)
  }}
 >
}}
"""

# How many beams may finish: as many as are live, or `search.patience` times as many.
PLACES = "places = Identity(width)"
PATIENT_PLACES = """
 width_float = Cast<to=11>(width)
 places_float = Mul(width_float, patience)
 places_rounded = Round(places_float)
 places = Cast<to=7>(places_rounded)
 twice_width = Add(width, width)
"""

# One iteration, after the decoder's step. `logprobs` (1, beam, word) are the step's output.
BODY = """
turn_of_search (int64 turn, bool on, int64[beams, steps] told, float[beams] alive, int64 places, int64[finished]
 kept, float kept_logprob, double kept_score, int64[1, beams] step_parents)
=> (bool go_on, int64[next_beams, next_steps] next_told, float[next_beams] next_alive, int64 next_places,
 int64[next_finished] next_kept, float next_kept_logprob, double next_kept_score, int64[1, next_beams] next_parents)
{{
 all_words = Squeeze(logprobs, from_0)
 {rules}
 alive_column = Unsqueeze(alive, from_1)
 totals_by_beam = Add(alive_column, {allowed})
 totals = Reshape(totals_by_beam, flat)
 continuations = Size(totals)
 count = Min({wanted}, continuations)
 count_list = Reshape(count, flat)
 top, place = TopK<axis=0>(totals, count_list)
 {parent} = Div(place, words)
 word = Mod(place, words)
 is_end = Equal(word, end)
 {kept}
 chosen = Where(stays, top, infinitely_unlikely)
 history = Gather<axis=0>(told, {parent})
 word_column = Unsqueeze(word, from_1)
 {told} = Concat<axis=1>(history, word_column)
 is_likely = Greater(chosen, infinitely_unlikely)
 has_ended = And(is_end, is_likely)
 length = Add(turn, one)
 length_float = Cast<to=11>(length)
 divisor = Pow(length_float, length_penalty)
 chosen_float = Cast<to=11>(chosen)
 scores = Div(chosen_float, divisor)
 ended_scores = Where(has_ended, scores, worst)
 first = ArgMax<axis=0, keepdims=0>(ended_scores)
 first_score = Gather<axis=0>(ended_scores, first)
 first_logprob = Gather<axis=0>(chosen, first)
 is_better = Greater(first_score, kept_score)
 next_kept_score = Where(is_better, first_score, kept_score)
 next_kept_logprob = Where(is_better, first_logprob, kept_logprob)
 next_kept = If(is_better) <
  then_branch = better () => (int64[now] better_tokens) {{ better_tokens = Gather<axis=0>({told}, first) }},
  else_branch = worse () => (int64[before] former_tokens) {{ former_tokens = Identity(kept) }}
 >
 ended_ones = Cast<to=7>(has_ended)
 ended_number = ReduceSum<keepdims=0>(ended_ones)
 next_places = Sub(places, ended_number)
 {alive} = Where(is_end, infinitely_unlikely, chosen)
 {drop}
 best_alive = ReduceMax<keepdims=0>(next_alive)
 best_alive_float = Cast<to=11>(best_alive)
 longest_float = Cast<to=11>(max_length)
 kindest_divisor = Pow(longest_float, length_penalty)
 best_possible = Div(best_alive_float, kindest_divisor)
 has_places = Greater(next_places, zero)
 has_hope = Greater(best_possible, next_kept_score)
 go_on = And(has_places, has_hope)
 next_parents = Unsqueeze(parent, from_0)
}}
"""

# Which continuations stay if finished beams are not replaced: as many as may still finish.
KEPT = """
 rank = Range(zero, count, one)
 stays = Less(rank, places)
"""

# If they are: the live ones up to the width of the beam, and before them as many that have ended as may finish.
PATIENT_KEPT = """
 is_live = Not(is_end)
 live_ones = Cast<to=7>(is_live)
 live_so_far = CumSum(live_ones, zero)
 live_before = Sub(live_so_far, live_ones)
 in_front = Less(live_before, width)
 end_ones = Cast<to=7>(is_end)
 ended_so_far = CumSum(end_ones, zero)
 may_finish = LessOrEqual(ended_so_far, places)
 lives_or_finishes = Or(is_live, may_finish)
 stays = And(in_front, lives_or_finishes)
"""

# Then beams that have ended are dropped.
DROP = """
 live_most = Min(width, count)
 live_list = Reshape(live_most, flat)
 next_alive, live_places = TopK<axis=0>(alive_then, live_list)
 next_told = Gather<axis=0>(told_then, live_places)
 parent = Gather<axis=0>(parent_then, live_places)
"""

# For the rules that forbid words: the words of each beam, and zeros for all words and one column more.
SPOKEN = """
 spoken = Slice(told, from_1, to_end, from_1)
 beams_number = Shape<start=0, end=1>(told)
 words_and_one = Add(words, one)
 row_length = Reshape(words_and_one, flat)
 free_shape = Concat<axis=0>(beams_number, row_length)
 free = Expand(unchanged, free_shape)
 words_list = Reshape(words, flat)
"""

# Forbids the words `{forbidden}` (beam, n); the number of words, one beyond the last token, forbids none.
FORBID = """
 {forbidden}_shape = Shape({forbidden})
 {forbidden}_scores = Expand(infinitely_unlikely, {forbidden}_shape)
 {forbidden}_rows = ScatterElements<axis=1>(free, {forbidden}, {forbidden}_scores)
 {forbidden}_words = Slice({forbidden}_rows, from_0, words_list, from_1)
 without_{forbidden} = Add({scores}, {forbidden}_words)
"""

# `rules.BlockNgrams`: the words that would complete an n-gram already in the beam, and its last word.
BLOCK_NGRAMS = """
 windows_maybe = Sub(turn, ngram_less_1)
 windows_number = Max(windows_maybe, zero)
 windows = Reshape(windows_number, flat)
 windows_end = Add(windows, ngram_less_1)
 followers = Slice(spoken, ngram_less_1, windows_end, from_1)
 {same}
 last_said = Slice(told, to_last, to_end, from_1)
 completing = Where({all_same}, followers, words)
 repeats = Concat<axis=1>(completing, last_said)
"""

# Word number {number} of each window, compared with that of the last words.
SAME = """
 window_end_{number} = Add(windows, number_{number})
 word_{number} = Slice(spoken, number_{number}, window_end_{number}, from_1)
 last_from_{number} = Add(windows, number_{number})
 last_to_{number} = Add(last_from_{number}, one)
 last_{number} = Slice(spoken, last_from_{number}, last_to_{number}, from_1)
 same_{number} = Equal(word_{number}, last_{number})
"""

# `rules.BlockAround`: a, b, c and d are the last four words.
BLOCK_AROUND = """
 four_shape = Concat<axis=0>(beams_number, four)
 before_them = Expand(words, four_shape)
 from_before = Concat<axis=1>(before_them, spoken)
 word_a = Slice(from_before, to_last_4, to_last_3, from_1)
 word_b = Slice(from_before, to_last_3, to_last_2, from_1)
 word_c = Slice(from_before, to_last_2, to_last, from_1)
 word_d = Slice(from_before, to_last, to_end, from_1)
 after_c = Equal(word_d, around)
 after_b = Equal(word_c, around)
 again_a = Equal(word_d, word_a)
 after_b_again_a = And(after_b, again_a)
 again_c = Where(after_c, word_c, words)
 again_b = Where(after_b_again_a, word_b, words)
 echoes = Concat<axis=1>(again_c, again_b)
"""

# `rules.LeastLength`: no end token before the minimal length, unless no other word is allowed.
LEAST_LENGTH = """
 unended = Where(ends, infinitely_unlikely, {scores})
 unended_best = ReduceMax<keepdims=1>(unended, from_1)
 can_go_on = Greater(unended_best, infinitely_unlikely)
 length_then = Add(turn, one)
 too_short = Less(length_then, least_length)
 must_go_on = And(can_go_on, too_short)
 long_enough = Where(must_go_on, unended, {scores})
"""


def outer_text(names: Names, search: SearchParams) -> str:
    """From the encoder's outputs, by their names, to `tokens`, `logprob` and `finished`."""
    starts = "".join(f", encoder_{name}" for name in names.state)
    ends = "".join(f", end_{name}" for name in names.state)
    places = PLACES if search.patience is None else PATIENT_PLACES
    return OUTER.format(starts=starts, ends=ends, places=places)


def body_text(search: SearchParams) -> str:
    """One iteration of the search, from the step's `logprobs`, with the rules of `search`."""
    forbidding = {}
    if search.block_ngrams:
        forbidding["repeats"] = _block_ngrams(search.block_ngrams)
    if search.block_around:
        forbidding["echoes"] = BLOCK_AROUND
    rules, scores = SPOKEN if forbidding else "", "all_words"
    for forbidden, text in forbidding.items():
        rules += text + FORBID.format(forbidden=forbidden, scores=scores)
        scores = f"without_{forbidden}"
    if search.min_length > 1:
        rules, scores = rules + LEAST_LENGTH.format(scores=scores), "long_enough"
    if search.patience is None:
        parts = {"wanted": "width", "kept": KEPT, "drop": "", **{name: f"next_{name}" for name in ("told", "alive")}}
        return BODY.format(rules=rules, allowed=scores, parent="parent", **parts)
    parts = {"wanted": "twice_width", "kept": PATIENT_KEPT, "drop": DROP}
    then = {name: f"{name}_then" for name in ("told", "alive", "parent")}
    return BODY.format(rules=rules, allowed=scores, **parts, **then)


def _block_ngrams(size: int) -> str:
    numbers = range(size - 1)
    same = "".join(SAME.format(number=number) for number in numbers)
    all_same = "same_0" if size > 1 else "always"
    for number in numbers[1:]:
        same += f" same_up_to_{number} = And({all_same}, same_{number})\n"
        all_same = f"same_up_to_{number}"
    return BLOCK_NGRAMS.format(same=same, all_same=all_same)


def constants(search: SearchParams, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """The constants that the graph texts use."""
    words, around = len(vocabulary), vocabulary.token(search.block_around)
    ends = np.zeros((1, words), bool)
    ends[0, END] = True
    size = search.block_ngrams
    found = {
        "start": [[START]], "no_tokens": [], "first_beam": [[0]], "zero": 0, "one": 1, "end": END, "words": words,
        "flat": [-1], "from_0": [0], "from_1": [1], "to_last": [-1], "to_end": [ENDLESS],
        **{f"to_last_{number}": [-number] for number in (2, 3, 4)}, "four": [4],
        "around": -1 if around is None else around,  # -1, no token: the vocabulary does not have the word
        "least_length": search.min_length, "ngram_less_1": [size - 1],
        **{f"number_{number}": [number] for number in range(size - 1)},
    }  # fmt: skip
    return {name: np.array(value, np.int64) for name, value in found.items()} | {
        "surely": np.zeros(1, np.float32),  # natural logs
        "infinitely_unlikely": np.array(-np.inf, np.float32),
        "unchanged": np.array(0, np.float32),
        "worst": np.array(-np.inf),
        "patience": np.array(search.patience or 1.0),
        "ends": ends,
        "true": np.array(True),
        "always": np.array(True),
    }
