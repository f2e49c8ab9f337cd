"""Hard attention: its estimator against an enumeration of all samples, its sampling, and generation."""

from itertools import product

import pytest
import torch
from decoder_systems import CELLS, PUBLISHED, WORDS, batch
from decoder_systems import decoder_of as soft_decoder
from tiny_networks import batch_of, caption_network
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.decoders import Decoder, DecoderParams, build_decoder
from showtell.decoders.hard_attention import HardAttention

HARD = PUBLISHED | {"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.0}
STEPS = 3


def decoder_of(**changes) -> Decoder:
    torch.manual_seed(3)
    decoder = build_decoder(DecoderParams.model_validate(HARD | {"dropout": 0.0} | changes), 6, WORDS)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder


def one_caption() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of one image with 2 cells, inputs, mask and targets of one caption of three words."""
    torch.manual_seed(5)
    features, mask = torch.randn(1, 2, 6), torch.ones(1, 1, STEPS, dtype=torch.bool)
    return features, torch.tensor([[[1, 5, 6]]]), mask, torch.tensor([5, 6, 2])


def gradients(decoder: Decoder, loss: Tensor) -> dict[str, Tensor]:
    learning = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(learning.items(), found, strict=True)}


def along(decoder: Decoder, monkeypatch, places: tuple[int, ...], expected: bool = False):
    """Losses of the caption when these cells are sampled: cross-entropy by word, and the extra loss."""
    drawn = iter(places)
    monkeypatch.setattr(decoder.hard, "draw", lambda attention: torch.full(attention.shape[:2], next(drawn)))
    monkeypatch.setattr(decoder.hard, "expected", lambda *_: torch.tensor([[expected]]))
    features, inputs, mask, targets = one_caption()
    decoded = decoder(features, inputs, mask)
    loss = torch.nn.functional.cross_entropy(decoded.logits, targets, reduction="sum")
    likely = decoded.attention[0, 0, torch.arange(STEPS), list(places)].prod()  # probability of this sample
    return loss, likely, decoded.extra_loss(targets), decoded


@pytest.mark.parametrize("baseline", [0.0, -7.0])
@pytest.mark.parametrize("changes", [{}, {"cell": "gru", "layers": 2, "context_output": True}])
def test_the_estimator_is_unbiased(changes, baseline, monkeypatch):
    """Its mean over all samples is the gradient of the expected loss, for any baseline."""
    decoder = decoder_of(**changes).train()
    exact = estimated = None
    for places in product(range(2), repeat=STEPS):
        decoder.hard.baseline.fill_(baseline)
        loss, likely, extra, _ = along(decoder, monkeypatch, places)
        share = {name: likely.detach() * g for name, g in gradients(decoder, loss + extra).items()}
        loss, likely, _, _ = along(decoder, monkeypatch, places)
        estimated = share if estimated is None else {name: g + share[name] for name, g in estimated.items()}
        exact = likely * loss if exact is None else exact + likely * loss
    truth = gradients(decoder, exact)
    for name, gradient in truth.items():
        torch.testing.assert_close(estimated[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert truth["query.weight"].abs().max() > 1e-3  # which soft gradients do not reach here


def test_expected_contexts_are_soft_attention(monkeypatch):
    decoder = decoder_of().train()
    loss, _, extra, decoded = along(decoder, monkeypatch, (0,) * STEPS, expected=True)
    soft = build_decoder(DecoderParams.model_validate(PUBLISHED | {"dropout": 0.0}), 6, WORDS)
    soft.load_state_dict({n: p for n, p in decoder.state_dict().items() if n != "hard.baseline"})
    features, inputs, mask, targets = one_caption()
    expected = soft(features, inputs, mask)
    torch.testing.assert_close(decoded.logits, expected.logits)
    torch.testing.assert_close(decoded.attention, expected.attention)
    theirs = gradients(soft, torch.nn.functional.cross_entropy(expected.logits, targets, reduction="sum"))
    for name, gradient in gradients(decoder, loss + extra).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5)


def test_entropy_is_rewarded(monkeypatch):
    decoder = decoder_of(hard_entropy=0.5).train()
    *_, extra, decoded = along(decoder, monkeypatch, (0, 1, 0), expected=True)
    entropy = -(decoded.attention * decoded.attention.log()).sum()
    torch.testing.assert_close(extra, -0.5 * entropy)


def test_the_baseline_follows_the_likelihood_of_captions_with_drawn_places(monkeypatch):
    decoder = decoder_of().train()
    decoder.hard.baseline.fill_(-2.0)
    loss, *_ = along(decoder, monkeypatch, (0, 1, 0))
    assert decoder.hard.baseline.item() == pytest.approx(0.9 * -2.0 - 0.1 * loss.item(), rel=1e-5)
    before = decoder.hard.baseline.clone()
    along(decoder, monkeypatch, (0, 1, 0), expected=True)
    assert torch.equal(decoder.hard.baseline, before)
    assert "hard.baseline" in decoder.state_dict()  # saved with the model, for a resumed run


def test_cells_are_sampled_from_the_attention_for_half_of_the_captions():
    torch.manual_seed(0)
    hard, attention = HardAttention(1.0, 0.0), torch.tensor([0.1, 0.6, 0.3]).expand(2, 3000, 3)
    drawn = hard.draw(attention)
    for cell, share in enumerate((0.1, 0.6, 0.3)):
        assert (drawn == cell).float().mean(dim=1) == pytest.approx([share, share], abs=0.04)
    assert float(hard.expected(2, 3000, drawn.device).float().mean()) == pytest.approx(0.5, abs=0.03)
    places = hard.places(attention, torch.arange(3000).expand(2, -1) % 2 == 0)
    assert torch.equal(places[:, ::2], attention[:, ::2])
    assert set(places[:, 1::2].unique().tolist()) == {0.0, 1.0} and (places[:, 1::2].sum(2) == 1).all()


def test_generation_uses_the_most_probable_cell_without_sampling():
    decoder = decoder_of().eval()
    params, _ = soft_decoder("show-attend-tell")
    features, inputs, mask = batch(params)
    torch.manual_seed(1)
    expected = decoder(features, inputs, mask)
    torch.manual_seed(2)
    decoded = decoder(features, inputs, mask)
    assert torch.equal(decoded.logits, expected.logits) and decoded.extra_loss is None
    state, next_step, logits = decoder.start(features).repeat(3), decoder.steps(), []
    for step in range(inputs.shape[2]):
        row, state = next_step(state, inputs[:, :, step])
        logits.append(row)
    torch.testing.assert_close(torch.stack(logits, dim=2)[mask], decoded.logits, rtol=1e-4, atol=1e-5)
    # The first word depends on the most probable cell only.
    first, best = mask.clone(), decoded.attention[:, 0, 0].argmax(dim=1)
    first[:, :, 1:] = False
    first[:, 1:] = False
    seen = torch.zeros(3, CELLS).scatter_(1, best.unsqueeze(1), 1.0)
    context = torch.sigmoid(decoder.gate(decoder.start(features).beam[0][:, 0])) * (seen.unsqueeze(2) * features).sum(1)
    words = decoder.embedding(inputs[:, 0, 0])
    carried = tuple(x[:, 0] for x in decoder.start(features).beam)
    hidden, _ = torch.nn.LSTMCell.forward(decoder.cell, torch.cat([words, context], dim=1), carried)
    torch.testing.assert_close(decoder(features, inputs, first).logits, decoder.output(hidden))


def test_training_learns_the_attended_cell():
    """`CaptionTask` adds the extra loss of any decoder; it reaches the parameters of the attention."""
    keys = {"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.01}
    task = caption_network(decoder=keys)
    task.train()
    data = batch_of(1)
    data = data._replace(images=torch.randn(len(data.images), 4, 5))
    torch.manual_seed(0)
    task.loss(data).backward()
    assert task.decoder.query.weight.grad.abs().max() > 0
    assert float(task.decoder.hard.baseline) < 0
    task.eval()
    assert torch.equal(task.loss(data), task.loss(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_kind": "soft"}, "decoder.hard_reward = 1.0: it does nothing with attention_kind soft"),
        ({"hard_entropy": None}, "decoder.hard_entropy = null: attention_kind hard needs it"),
        ({"hard_reward": 0.0}, "decoder.hard_reward = 0.0: input should be greater than 0"),
        ({"attention_kind": None}, "decoder.kind = 'attention': it needs attention_kind"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_name(change, message, tmp_path):
    with pytest.raises(UserError) as refused:
        validate("decoder", {"decoder": HARD | change}, tmp_path / "params.yaml")
    assert message in str(refused.value)
