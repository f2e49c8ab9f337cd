"""The training loop with a learner small enough to follow: schedules, stopping, clipping, going on after a kill."""

import math

import pytest
import torch
from conftest import stage_params, tiny_params
from tiny_networks import WORDS, batch_of, caption_network, picture_batch, tiny_encoder
from torch import nn

from showtell.core.errors import UserError
from showtell.core.workplace import Workplace
from showtell.data.batches import Batch, pad
from showtell.data.vocabulary import END, START, UNK
from showtell.decoders import Decoder, DecoderParams, build_decoder
from showtell.generation.decoding import search_captions
from showtell.generation.search_params import PLAIN
from showtell.learning.augmentation import greyed
from showtell.learning.caption_task import CaptionTask, TrainParams, word_dropout
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit, parts
from showtell.learning.optimisation import LoopParams, TrainingProgress, build_optimizer, rate_scale
from showtell.learning.scheduled_sampling import own_word_share, with_own_words
from showtell.learning.training_task import Counts, ParameterGroup, TrainingTask
from showtell.learning.validation import validation

# What each choice needs, and no other may have.
NEEDED = {
    "plateau": {"decay": 0.8, "patience": 8},
    "step": {"decay": 0.8, "step_epochs": 3},
    "cosine": {"cosine_end": 0.0},
    "none": {},
    "value": {"clip_at": 5.0},
    "norm": {"clip_at": 5.0},
}


def loop_params(schedule: str = "plateau", clip: str = "none", **changes) -> LoopParams:
    values = {key: value for key, value in tiny_params()["pretrain"].items() if key in LoopParams.model_fields}
    values |= {"epochs": 6, "precision": "fp32", "schedule": schedule, "clip": clip, "optimizer": "adam"}
    values |= {"cosine_end": None, "clip_at": None, "ema": 0.0, "weight_decay": 0.0}
    return LoopParams.model_validate(values | NEEDED[schedule] | NEEDED[clip] | changes)


class Line(TrainingTask):
    """Learns the sum of three numbers, with dropout so that random numbers matter and a part that must not learn."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fixed, self.linear = nn.Linear(3, 3), nn.Linear(3, 1)
        self.fixed.requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def loss(self, batch: Batch, whole: Counts | None = None):
        error = self.linear(self.dropout(self.fixed(batch.images))).squeeze(1) - batch.images.sum(1)
        return (error**2).sum() / (whole or Counts.of(batch)).images

    def groups(self):
        return ParameterGroup.of(self.linear, 0.05)

    def weights(self):
        return {f"linear.{name}": tensor for name, tensor in self.linear.state_dict().items()}


def epoch_batches(epoch: int) -> list[Batch]:
    return [batch_of(10 * epoch + number) for number in range(3)]


def run(tmp_path, learner: TrainingTask, params: LoopParams, scores: list[float] | None = None, batches=epoch_batches):
    tmp_path.mkdir(exist_ok=True)
    given = iter(scores or [])

    def validate() -> dict[str, float]:
        return {"score": next(given) if scores else -float(learner.linear.weight.detach().sub(1).abs().sum())}

    return fit(learner, batches, validate, params, "score", Checkpoints(Workplace(tmp_path)))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resumed_is_uninterrupted(tmp_path, precision):
    # Set behind the check of what this machine computes: a product is all that is needed here.
    params = loop_params(schedule="cosine", warmup_updates=4, ema=0.8).model_copy(update={"precision": precision})
    whole = Line()
    history = run(tmp_path / "whole", whole, params)
    killed = Line()

    def stop_in_third(epoch: int) -> list[Batch]:
        if epoch == 2:
            raise KeyboardInterrupt
        return epoch_batches(epoch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", killed, params, batches=stop_in_third)
    torch.rand(100)  # another process would be somewhere else in its random numbers
    resumed = Line()
    assert run(tmp_path / "killed", resumed, params) == history
    assert resumed.epochs == [3, 4, 5, 6]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_best_epoch_is_kept_and_survives_a_resume(tmp_path):
    params = loop_params(epochs=4)
    first = Line()
    run(tmp_path, first, loop_params(epochs=2), scores=[0.2, 0.9])
    best = first.linear.weight.clone()
    again = Line()
    history = run(tmp_path, again, params, scores=[0.5, 0.6])
    assert [row["score"] for row in history] == [0.2, 0.9, 0.5, 0.6]
    assert torch.equal(again.linear.weight, best)


def test_where_the_metric_never_changes_the_lowest_loss_is_kept(tmp_path, capsys):
    losses = iter([3.0, 1.0, 2.0])
    weights = []
    network = Line()

    def validate() -> dict[str, float]:
        weights.append(network.linear.weight.detach().clone())
        return {"score": 0.0, "val_loss": next(losses)}

    fit(network, epoch_batches, validate, loop_params(epochs=3), "score", Checkpoints(Workplace(tmp_path)))
    assert torch.equal(network.linear.weight, weights[1])
    assert "score was 0 after every epoch" in capsys.readouterr().err


def test_a_val_of_one_image_is_refused_in_one_line():
    class OneImage:
        entries = ({"image_id": "1", "references": ["a dog"], "tokens": [[1, 4, 2]]},)

        def __len__(self) -> int:
            return 1

    with pytest.raises(UserError, match=r"val has 1 image.*at least two"):
        validation(None, OneImage(), None, None)


def test_stops_after_so_many_epochs_without_improvement(tmp_path):
    history = run(tmp_path, Line(), loop_params(epochs=20, stop_after=3), scores=[0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    assert len(history) == 5


def test_the_moving_average_is_validated_and_kept_and_changes_no_update(tmp_path):
    seen, validated = [], []

    class Watched(Line):
        def loss(self, batch, whole=None):
            seen.append(self.linear.weight.detach().clone())  # before the update
            return super().loss(batch, whole)

    plain, averaged = Line(), Watched()
    losses = [row["loss"] for row in run(tmp_path / "plain", plain, loop_params(epochs=4))]

    def validate() -> dict[str, float]:
        validated.append(averaged.linear.weight.detach().clone())
        return {"score": float(len(validated))}

    checkpoints = Checkpoints(Workplace(tmp_path))
    history = fit(averaged, epoch_batches, validate, loop_params(epochs=4, ema=0.7), "score", checkpoints)
    assert [row["loss"] for row in history] == losses
    mean = seen[0]
    for count, weight in enumerate([*seen[1:], plain.linear.weight.detach()], start=1):
        decay = min(0.7, (1 + count) / (10 + count))
        mean = decay * mean + (1 - decay) * weight
        if count % 3 == 0:
            torch.testing.assert_close(validated[count // 3 - 1], mean)
    torch.testing.assert_close(averaged.linear.weight.detach(), mean)
    assert not torch.allclose(mean, plain.linear.weight, atol=1e-3)


def test_no_epochs_leave_the_weights_as_drawn(tmp_path):
    learner = Line()
    before = learner.linear.weight.clone()
    assert run(tmp_path, learner, loop_params(epochs=0)) == []
    assert torch.equal(learner.linear.weight, before)


def rates(params: LoopParams, standings: list[TrainingProgress]) -> list[float]:
    return [rate_scale(standing, params, 20) for standing in standings]


def test_plateau_lowers_the_rate_after_patience_and_again(tmp_path):
    learner, seen = Line(), []
    params = loop_params(epochs=8, patience=2, decay=0.5, stop_after=20, warmup_updates=0)

    def recorded(epoch: int) -> list[Batch]:
        return epoch_batches(epoch)

    scores = [0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.5, 0.5]
    original = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        run(tmp_path, learner, params, scores=scores, batches=recorded)
    assert seen[::3] == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125, 0.0125])


def test_schedules():
    step = loop_params(schedule="step", step_epochs=2, decay=0.1, warmup_updates=0)
    assert rates(step, [TrainingProgress(epoch=e) for e in range(5)]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = loop_params(schedule="cosine", warmup_updates=0)
    assert rates(cosine, [TrainingProgress(update=u) for u in (0, 10, 20)]) == pytest.approx([1, 0.5, 0])
    part = loop_params(schedule="cosine", warmup_updates=0, cosine_end=0.2)
    assert rates(part, [TrainingProgress(update=u) for u in (0, 10, 20)]) == pytest.approx([1, 0.6, 0.2])
    warm = loop_params(schedule="cosine", warmup_updates=10)
    assert rates(warm, [TrainingProgress(update=u) for u in (0, 4, 9, 15)]) == pytest.approx([0.1, 0.5, 1, 0.5])


@pytest.mark.parametrize("clip", ["value", "norm"])
def test_gradients_are_clipped(tmp_path, clip):
    learner = Line()
    run(tmp_path, learner, loop_params(epochs=1, clip=clip, clip_at=1e-3))
    gradients = torch.cat([p.grad.flatten() for p in learner.linear.parameters()])
    size = gradients.abs().max() if clip == "value" else gradients.norm()
    assert size == pytest.approx(1e-3, rel=1e-3)
    assert all(p.grad is None for p in learner.fixed.parameters())


def grid_batch(seed: int = 0, images: int = 5) -> Batch:
    batch = batch_of(seed, images)
    return batch._replace(images=torch.randn(images, 4, 5, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_an_update_in_parts_is_the_same_update(count):
    network, batch = caption_network(), grid_batch()
    network.loss(batch).backward()
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    whole = {name: p.grad.clone() for name, p in learning.items()}
    network.zero_grad()
    dealt = parts(batch, count)
    assert len(dealt) == min(count, 5)
    for part in dealt:
        network.loss(part, Counts.of(batch)).backward()
    for name, parameter in learning.items():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


def test_finetuning_leaves_what_is_frozen_bit_for_bit_and_moves_the_rest(tmp_path):
    encoder = tiny_encoder()
    encoder.train_from("layer2")
    network = caption_network(encoder)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    learning = loop_params(epochs=1, learning_rate=0.01)
    fit(
        network,
        lambda epoch: [picture_batch()] * 2,
        lambda: {"score": 1.0},
        learning,
        "score",
        Checkpoints(Workplace(tmp_path)),
    )
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("backbone.network.layer2")), name


def test_checkpoints_hold_what_learns_and_nothing_else():
    encoder = tiny_encoder()
    encoder.train_from("layer2.1")
    names = set(caption_network(encoder).weights())
    of_encoder = {name.removeprefix("encoder.") for name in names if name.startswith("encoder.")}
    assert of_encoder == {name for name in encoder.state_dict() if name.startswith("backbone.network.layer2.1.")}
    assert "backbone.network.layer2.1.bn1.running_mean" in of_encoder
    assert any(name.startswith("decoder.") for name in names)


def test_augmentation_is_for_training_of_the_encoder_alone():
    encoder = tiny_encoder(output="pooled", crop=24)
    network = caption_network(encoder, flip=True, grey=0.0)
    images = picture_batch().images
    torch.manual_seed(0)
    augmented = network.augmented(images)
    assert augmented.shape == (4, 3, 24, 24)
    windows = images.unfold(2, 24, 1).unfold(3, 24, 1)  # (image, 3, top, left, row, column)
    for image, piece in enumerate(augmented):
        places = windows[image].flatten(1, 2).transpose(0, 1)  # (place, 3, row, column)
        assert any(torch.equal(place, piece) or torch.equal(place.flip(2), piece) for place in places)
    network.eval()
    middle = encoder(images[:, :, 4:28, 4:28])
    torch.testing.assert_close(network.features(images), middle)
    cached = caption_network()
    assert cached.augmented(images) is images


@pytest.mark.parametrize("schedule", ["constant", "linear", "exponential", "inverse_sigmoid"])
def test_share_of_own_words_rises_from_its_start_to_its_height(schedule):
    shares = [own_word_share(epoch, 0.4, 3, schedule, 5) for epoch in range(1, 100)]
    assert shares[:2] == [0, 0] and all(share > 0 for share in shares[2:])
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.4, abs=1e-3)
    first = {
        "constant": 0.4, "linear": 0.4 / 5, "exponential": 0.4 * (1 - math.exp(-0.2)),
        "inverse_sigmoid": 0.4 * (1 - 5 / (5 + math.exp(0.2))),
    }  # fmt: skip
    assert shares[2] == pytest.approx(first[schedule])


def test_hidden_words_are_some_of_the_inputs_and_never_the_first():
    torch.manual_seed(0)
    inputs = torch.randint(5, WORDS, (20, 2, 9))
    shown = word_dropout(inputs, 0.3)
    hidden = shown != inputs
    assert torch.equal(shown[hidden], torch.full((int(hidden.sum()),), UNK)) and not hidden[..., 0].any()
    assert 0.2 < hidden[..., 1:].float().mean() < 0.4
    assert word_dropout(inputs, 0.0) is inputs


def test_words_are_hidden_while_the_decoder_learns():
    batch = grid_batch()
    plain, hiding = caption_network(word_dropout=0.0), caption_network(word_dropout=1.0)
    hidden = batch._replace(inputs=batch.inputs.clone())
    hidden.inputs[..., 1:] = UNK
    torch.testing.assert_close(hiding.loss(batch), plain.loss(hidden))


def decoder_of(kind: str, words: int, **changes) -> Decoder:
    values = tiny_params()["decoder"] | {"kind": kind} | changes
    if kind != "attention":
        off = dict.fromkeys(("attention", "attention_kind", "normalise_grid", "context_output"))
        off["initial_tanh"] = False
        values |= off | {"image_projection": "batch_norm" if kind == "pre_inject" else "linear"}
    torch.manual_seed(1)
    return build_decoder(DecoderParams.model_validate(values), 5, words)


@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_own_words_are_what_the_decoder_would_say(kind):
    decoder = decoder_of(kind, WORDS)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    batch = grid_batch()
    decoder.train()
    free = with_own_words(decoder, batch.images, batch.inputs, batch.mask, share=1.0)
    assert decoder.training
    decoder.eval()
    said = decoder(batch.images, free, batch.mask).logits.argmax(dim=1)
    next_words = torch.full_like(free, -1)
    next_words[batch.mask] = said
    follow = batch.mask[:, :, 1:]
    assert torch.equal(free[:, :, 1:][follow], next_words[:, :, :-1][follow])
    assert torch.equal(free[:, :, 0], batch.inputs[:, :, 0])
    assert torch.equal(with_own_words(decoder, batch.images, batch.inputs, batch.mask, 0.0), batch.inputs)


def test_scheduled_sampling_follows_the_epoch_and_keeps_the_targets():
    network = caption_network(sampling=1.0, sampling_start=2, sampling_schedule="constant")
    batch = grid_batch()
    plain = caption_network().loss(batch)
    network.begin_epoch(1)
    torch.testing.assert_close(network.loss(batch), plain)
    network.begin_epoch(2)
    sampled = network.loss(batch)
    assert not torch.isclose(sampled, plain)
    sampled.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("sampling", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_every_decoder_learns_a_few_captions_by_heart(kind, sampling):
    decoder = decoder_of(kind, 12, embedding=24, hidden=32, dropout=0.0)
    training = {"precision": "fp32", "label_smoothing": 0.0, "alpha_c": 0.0, "word_dropout": 0.0}
    if sampling:
        training |= {"sampling": sampling, "sampling_start": 1, "sampling_schedule": "constant"}
    network = CaptionTask(decoder, TrainParams.model_validate(stage_params("train") | training))
    captions = [[[START, 4, 5, 6, END]], [[START, 7, 5, END]], [[START, 8, 9, 10, 11, END]], [[START, 6, END]]]
    batch = Batch(torch.randn(4, 4, 5), *pad(captions))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    network.begin_epoch(1)
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(batch).backward()
        optimizer.step()
    if kind == "pre_inject":  # its batch norm lags behind by design: let it see the images as they are now
        with torch.no_grad():
            for _ in range(500):
                network.loss(batch)
    network.eval()
    with torch.inference_mode():
        found = search_captions(decoder, batch.images, PLAIN.override(beam=2, max_length=8, allow_unknown=True))
    assert [best.tokens for best, *_ in found] == [tokens[1:-1] for (tokens,) in captions]


@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_an_update_never_waits_for_an_accelerator(kind):
    """On a device that holds shapes alone, asking what is in a tensor is an error."""
    training = {"precision": "fp32", "alpha_c": 1.0, "sampling": 0.5, "word_dropout": 0.2}
    training |= {"sampling_start": 1, "sampling_schedule": "constant"}
    params = TrainParams.model_validate(stage_params("train") | training)
    network = CaptionTask(decoder_of(kind, WORDS), params).to("meta")
    network.begin_epoch(1)
    batch = grid_batch().to(torch.device("meta"))
    network.loss(batch, Counts.of(batch)).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_grey_images_keep_their_light_and_lose_their_colours():
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8)
    torch.manual_seed(0)
    shown = greyed(images, 0.5)
    grey = (shown == shown[:, :1]).flatten(1).all(dim=1)
    assert 0 < grey.sum() < 40
    assert torch.equal(shown[~grey], images[~grey])
    light = (images[grey].float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)
    assert (shown[grey][:, 0] - light).abs().max() < 1.1  # rounding


def test_weight_decay_leaves_alone_what_the_decoder_names(monkeypatch):
    task = caption_network(weight_decay=0.5, optimizer="adamw")
    monkeypatch.setattr(task.decoder, "without_decay", lambda: [task.decoder.output.bias, task.decoder.energy.bias])
    optimizer = build_optimizer(task, task.params)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    before = {name: parameter.detach().clone().fill_(1.0) for name, parameter in task.named_parameters()}
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = {name for name, parameter in task.named_parameters() if torch.equal(parameter, before[name])}
    assert kept == {"decoder.output.bias", "decoder.energy.bias"}  # the second does not learn at all
