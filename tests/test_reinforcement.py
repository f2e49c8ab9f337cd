"""Learning from rewards: the gradient is that of the expected reward, and samples depend on seeds only."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage, stage_params, tiny_params, write_params

from showtell.core.errors import UserError
from showtell.core.params import validate_all
from showtell.core.precision import can_compute
from showtell.data.batches import Batch, pad
from showtell.data.captions import Block
from showtell.data.vocabulary import END, START, Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.decoders.interface import Decoded, Decoder, State
from showtell.generation.choices import sample_draws
from showtell.generation.decoding import search_together
from showtell.generation.search_params import PLAIN
from showtell.learning.reinforcement import (
    Drawn,
    ReinforceParams,
    ReinforceTask,
    Tally,
    concerns,
    draw,
    draws_for,
    ends_badly,
)
from showtell.learning.training_task import Counts

WORDS = Vocabulary(["dog", "a"], [2, 1])  # dog 4, a 5
STEPS = 2


class Table(Decoder):
    """Logits depend on the previous word only: small enough to enumerate all captions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(6, 6, dtype=torch.double, generator=torch.manual_seed(1)))
        self.dropout = torch.nn.Dropout(0.5)

    def start(self, features):
        return State((features,), (features.new_zeros(len(features), 1),))

    def step(self, state, tokens):
        return self.dropout(self.table)[tokens], state

    def forward(self, features, inputs, mask):
        return Decoded(self.dropout(self.table)[inputs[mask]], None)


def params_of(**changes) -> ReinforceParams:
    plain = {"precision": "fp32", "epochs": 1, "samples": 4, "cross_entropy": 0.0}
    content = stage_params("reinforce") | plain | changes
    return ReinforceParams.model_validate(content)


def reward_of(caption: list[int]) -> float:
    return 3.0 * (caption[-1] == END) + caption.count(4) - 0.5 * len(caption)


def rewards(image_ids, captions) -> np.ndarray:
    return np.array([[reward_of(sample) for sample in of_image] for of_image in captions])


def task_of(**changes) -> ReinforceTask:
    return ReinforceTask(Table(), params_of(**changes), rewards, WORDS, STEPS)


def batch_of(names: list[str]) -> Batch:
    return Batch(torch.zeros(len(names), 1), *pad([[[START, 4, END]]] * len(names)), names)


def expected_gradient(table: torch.Tensor) -> torch.Tensor:
    """The gradient of minus the expected reward, by enumeration of all captions."""
    weight = table.detach().clone().requires_grad_()
    logits = weight.clone()
    logits[:, [0, 1, 3]] = -torch.inf
    logprobs = torch.log_softmax(logits, dim=1)
    total = torch.zeros((), dtype=torch.double)
    endings = [[END], *([w, v] for w, v in itertools.product((4, 5), (2, 4, 5)))]
    for caption in endings:
        logprob = sum(logprobs[before, word] for before, word in itertools.pairwise([START, *caption]))
        total = total - logprob.exp() * reward_of(caption)
    total.backward()
    return weight.grad


@pytest.mark.parametrize("baseline", ["mean", "greedy"])
def test_the_gradient_is_that_of_the_expected_reward(baseline):
    task = task_of(baseline=baseline).train()  # dropout must have no effect
    names = [str(number) for number in range(20_000)]
    task.begin_epoch(1)
    task.loss(batch_of(names)).backward()
    expected = expected_gradient(task.decoder.table)
    torch.testing.assert_close(task.decoder.table.grad, expected, atol=0.02, rtol=0)
    assert expected.abs().max() > 0.3


def hard_attention(**changes) -> ReinforceTask:
    torch.manual_seed(0)
    section = tiny_params()["decoder"] | {"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.1}
    decoder = build_decoder(DecoderParams.model_validate(section), channels=3, words=6)
    return ReinforceTask(decoder, params_of(samples=8, **changes), rewards, WORDS, STEPS)


def learning(task: ReinforceTask) -> set[str]:
    """The parameters that an update of one picture moves."""
    features = torch.randn(1, 4, 3, generator=torch.manual_seed(0))
    task.train()
    torch.manual_seed(1)
    task.loss(batch_of(["1"])._replace(images=features)).backward()
    return {name for name, p in task.decoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_that_chooses_words_learns_in_any_precision(precision):
    if not can_compute(precision):
        pytest.skip(f"this machine has no {precision} arithmetic")
    assert learning(hard_attention(precision=precision)) >= {"output.weight", "embedding.weight", "cell.weight_hh"}


def test_hard_attention_learns_where_to_look_from_given_captions_beside_rewards():
    looking = {"key.weight", "query.weight", "energy.weight"}
    assert not learning(hard_attention()) & looking
    assert learning(hard_attention(cross_entropy=0.5)) >= looking


def test_hard_attention_without_given_captions_is_refused(tmp_path):
    write_params(
        tmp_path,
        decoder={"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.1},
        reinforce={"epochs": 1, "cross_entropy": 0.0},
    )
    with pytest.raises(UserError, match=r"reinforce\.cross_entropy = 0: hard attention .* learns from given captions"):
        run_stage("check", tmp_path)


def test_equal_rewards_give_no_gradient():
    task = ReinforceTask(Table(), params_of(), lambda ids, captions: np.full((len(ids), 4), 7.0), WORDS, STEPS)
    task.loss(batch_of(["1", "2"])).backward()
    assert not task.decoder.table.grad.any()


def test_parts_of_an_update_add_up_and_have_the_same_samples():
    names = ["1", "2", "3"]
    whole, parted = task_of(), task_of()
    batch = batch_of(names)
    whole.loss(batch).backward()
    for part in (slice(0, 1), slice(1, None)):
        parted.loss(batch.images_at(part), Counts.of(batch)).backward()
    torch.testing.assert_close(parted.decoder.table.grad, whole.decoder.table.grad)


def test_an_image_of_weight_zero_gives_no_gradient():
    task = task_of()
    batch = batch_of(["1"])
    task.loss(batch._replace(mask=torch.zeros_like(batch.mask)), Counts(3, 3, 6)).backward()
    assert not task.decoder.table.grad.any()
    assert task.tally.sums["images"] == 0


def test_given_captions_are_weighted_by_cross_entropy():
    both, alone = task_of(cross_entropy=2.0).eval(), task_of().eval()
    batch = batch_of(["1", "2"])
    extra = both.loss(batch) - alone.loss(batch)
    logprobs = torch.log_softmax(alone.decoder.table, dim=1)
    given = -(logprobs[START, 4] + logprobs[4, END]) / 2
    assert extra.item() == pytest.approx(2 * given.item(), abs=1e-6)


def test_samples_depend_on_seed_and_image_only():
    draws = draws_for(3, ["7", "8"], 4, 5)
    assert torch.equal(draws[1:], draws_for(3, ["8"], 4, 5))
    assert not torch.equal(draws, draws_for(4, ["7", "8"], 4, 5))
    assert draws.min() >= 0 and draws.max() < 1


def test_samples_are_those_that_generation_draws():
    features, decoder = torch.zeros(3, 1), Table().eval()
    drawn = draw(decoder, features, 6, sample_draws(5, range(3), 4, 6))
    search = PLAIN.override(method="sample", temperature=1.0, seed=5, max_length=6)
    generated = search_together([decoder], [features], search, n_best=4, names=range(3))
    ended = [[[*h.tokens, END] if h.finished else h.tokens for h in of_image] for of_image in generated]
    assert drawn.captions == ended


def test_samples_have_no_special_tokens_and_greedy_captions_the_most_probable_words():
    decoder = Table()
    drawn = draw(decoder, torch.zeros(50, 1), 6, draws_for(1, [str(n) for n in range(50)], 3, 6))
    for caption in itertools.chain.from_iterable(drawn.captions):
        assert set(caption) <= {2, 4, 5} and caption.count(END) == (caption[-1] == END)
        assert len(caption) == 6 or caption[-1] == END
    with torch.no_grad():
        decoder.table[:, 4] = 9
    ((greedy,),) = draw(decoder.eval(), torch.zeros(1, 1), 3, None).captions
    assert greedy == [4, 4, 4]


def test_the_log_counts_bad_endings_and_lengths():
    task = task_of()
    task.begin_epoch(1)
    task.loss(batch_of(["1", "2", "3"]))
    row = task.tally.row()
    assert list(row) == ["reward", "reward_spread", "entropy", "mean_length", "bad_endings"]
    assert 0 < row["entropy"] <= np.log(3) and 0 <= row["bad_endings"] <= 1 and row["mean_length"] <= STEPS


def test_the_log_describes_the_captions_drawn():
    """By hand: two images of two captions, one cut off ("dog dog"), one that ends in "a"."""
    tally, captions = Tally(), [[[4, END], [4, 4]], [[4, 5, END], [4, 5, 4, END]]]
    for rewarded, drawn in (([1.0, 3.0], captions[:1]), ([2.0, 2.0], captions[1:])):
        tally.add(np.array([rewarded]), Drawn(drawn, -1.5), WORDS)
    expected = {"reward": 2, "reward_spread": 0.5, "entropy": 3 / 11, "mean_length": (1 + 2 + 2 + 3) / 4}
    assert tally.row() == pytest.approx(expected | {"bad_endings": 2 / 4})


def test_every_epoch_draws_other_captions_and_a_log_of_its_own():
    task, drawn = task_of(), []
    for epoch in (1, 2, 1):
        task.begin_epoch(epoch)
        drawn.append(task.draws(["7"]))
        task.loss(batch_of(["7"]))
        assert task.tally.sums["images"] == 1
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_known_failures_are_reported():
    tokens = np.array([START, 4, 5, 4, END])
    captions = [Block(tokens, np.array([5]), np.array([1]))]
    fine = {"reward": 1.0, "reward_spread": 0.5, "mean_length": 3.5, "bad_endings": 0.0}
    assert concerns(fine, captions, 5) == concerns({**fine, "reward_spread": 0.0}, captions, 1) == []
    alike = float(np.full((7000, 5), 0.1).std(axis=1).mean())  # a tiny number
    told = concerns({**fine, "reward_spread": alike, "mean_length": 9.0, "bad_endings": 0.3}, captions, 5)
    assert [any(part in line for line in told) for part in ("30.0%", "9.0 words", "the same")] == [True] * 3
    assert "kept as it was" in concerns({"epoch": 0, "cider": 1.0}, captions, 5)[0]


@pytest.mark.parametrize(
    ("caption", "bad"), [([4, END], False), ([4, 5, END], True), ([4], True), ([4, 4], True), ([END], True)]
)
def test_bad_endings_are_function_words_and_no_end_at_all(caption, bad):
    assert ends_badly(caption, WORDS) == bad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "reinforce.baseline = 'mean': it compares an image's samples; samples must be 2 or more"),
        (
            {"cider": 0.0, "consensus": 0.0, "bleu4": 0.0, "chair": 0.0, "truth": 0.0},
            "reinforce.truth = 0.0: cider, consensus, bleu4 and chair are 0 as well; nothing is rewarded",
        ),
    ],
)
def test_settings_without_a_reward_are_refused(changes, message):
    with pytest.raises(UserError) as caught:
        validate_all(tiny_params(reinforce=changes), Path("params.yaml"))
    assert str(caught.value) == f"params.yaml: {message}"


def test_without_epochs_the_model_is_linked(copy_pipeline, monkeypatch):
    folder = copy_pipeline("data/models/finetune")
    write_params(folder, reinforce={"epochs": 0})
    run_stage("reinforce", folder)
    for file in (folder / "data/models/finetune").iterdir():
        handed = folder / "data/models/reinforce" / file.name
        assert handed.read_bytes() == file.read_bytes()
    assert len(os.listdir(folder / "data/models/reinforce")) == 3


def test_the_fine_tuned_model_is_kept_if_rewards_make_it_worse(copy_pipeline, pipeline):
    """Epoch 0 is the fine-tuned model, which is selected if it scores best."""
    folder = copy_pipeline("data")
    write_params(folder, reinforce={"epochs": 1, "learning_rate": 0.9, "clip": "none", "clip_at": None})
    run_stage("reinforce", folder)
    lines = (folder / "metrics/reinforce.tsv").read_text().splitlines()
    header, *rows = [line.split("\t") for line in lines]
    cider = [float(row[header.index("cider")]) for row in rows]
    assert [row[0] for row in rows] == ["0", "1"]
    same = (folder / "data/models/reinforce/model.safetensors").read_bytes() == (
        folder / "data/models/finetune/model.safetensors").read_bytes()  # fmt: skip
    assert same == (cider[0] >= cider[1])
