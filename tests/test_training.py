"""The training loop: resuming, the selected epoch, early stopping, moving averages."""

import pytest
import torch
from training_runs import Line, epoch_batches, loop_params, run

from showtell.core.errors import UserError
from showtell.core.workplace import Workplace
from showtell.data.batches import Batch
from showtell.data.caption_writer import write_captions
from showtell.learning import checkpoints, loop
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit
from showtell.learning.validation import _Scorer, validation


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resumed_training_equals_uninterrupted_training(tmp_path, precision):
    # Set after validation, which refuses arithmetic that this machine lacks; one product works everywhere.
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
    torch.rand(100)  # another process has another random state
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


def test_weights_of_an_epoch_that_was_not_saved_do_not_count(tmp_path, monkeypatch):
    """Killed after its weights were written, an epoch whose repetition scores less is not the best."""
    first = Line()
    run(tmp_path, first, loop_params(epochs=1), scores=[0.2])
    save = checkpoints._save

    def killed_at_latest(path, *rest):
        if path.name == "latest.pt":
            raise KeyboardInterrupt
        save(path, *rest)

    monkeypatch.setattr(checkpoints, "_save", killed_at_latest)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Line(), loop_params(epochs=2), scores=[0.9])
    monkeypatch.undo()
    again = Line()
    assert [row["score"] for row in run(tmp_path, again, loop_params(epochs=2), scores=[0.1])] == [0.2, 0.1]
    assert torch.equal(again.linear.weight, first.linear.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.pt", "latest.pt"]


def test_another_number_of_processes_and_a_warm_up_without_end_are_told(tmp_path, monkeypatch, capsys):
    run(tmp_path, Line(), loop_params(epochs=1, warmup_updates=3))
    assert "the learning rate rises for 3 updates, and there are 3" in capsys.readouterr().err
    run(tmp_path / "usual", Line(), loop_params(epochs=1, warmup_updates=2))
    assert "rises" not in capsys.readouterr().err
    monkeypatch.setattr(loop, "world", lambda: 2)
    run(tmp_path, Line(), loop_params(epochs=1))
    assert "1 processes began and 2 go on: the result is that of neither number" in capsys.readouterr().err


def test_a_bleu_without_a_matched_4_gram_is_nothing(tmp_path):
    entries = [{"image_id": text[0], "references": [text], "tokens": []} for text in ("a dog runs", "two cats sleep")]
    scorer = _Scorer(write_captions(tmp_path / "val.json", entries))
    assert scorer.score(["a dog", "a cat"])["bleu4"] == scorer.score(["a", "a"])["bleu4"] == 0.0


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


def test_no_epochs_keep_the_initial_weights(tmp_path):
    learner = Line()
    before = learner.linear.weight.clone()
    assert run(tmp_path, learner, loop_params(epochs=0)) == []
    assert torch.equal(learner.linear.weight, before)
