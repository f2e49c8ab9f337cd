"""Word detection in the cells of a map: choice of words, noisy-OR over cells, auxiliary loss of fine-tuning."""

import math
from itertools import product

import pytest
import torch
from conftest import tiny_params
from tiny_networks import WORDS, caption_network, picture_batch, tiny_encoder
from torch.nn import functional

from showtell.core.errors import UserError
from showtell.core.workplace import Workplace
from showtell.data.caption_writer import write_captions
from showtell.encoders.detection import DetectionParams, NoisyOr, WordDetector, Words, words_to_detect
from showtell.encoders.network import Encoder
from showtell.generation.word_hints import HintedDecoder
from showtell.learning.caption_task import CaptionTask
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit, parts
from showtell.learning.pretraining import PretrainParams, WordDetectionTask
from showtell.learning.training_task import Counts

TOKENS = torch.tensor([4, 6, 7])
LOG_SHARE = -torch.arange(WORDS, dtype=torch.float32)


def detector_of(encoder: Encoder) -> WordDetector:
    torch.manual_seed(3)
    return WordDetector(encoder, Words(TOKENS, LOG_SHARE))


def finetuned(word_loss: float) -> CaptionTask:
    encoder = tiny_encoder()
    encoder.train_from("layer2")
    network = caption_network(encoder, word_loss=word_loss, flip=False, grey=0.0)
    network.detector = detector_of(encoder) if word_loss else None
    return network


def test_detected_words_are_neither_rare_nor_in_most_images(tmp_path):
    images = [[[1, 4, 5, 2], [1, 4, 6, 2]], [[1, 4, 5, 7, 2]], [[1, 4, 3, 2]]]
    entries = ({"image_id": number, "tokens": tokens} for number, tokens in enumerate(images))
    captions = write_captions(tmp_path / "train.json", entries)
    found = words_to_detect(captions.blocks(), 9, DetectionParams(min_images=1, max_share=0.7))
    assert found.detected.tolist() == [5, 6, 7]  # 4 is in the captions of every picture, 3 is special
    assert found.log_share[4:].exp().tolist() == pytest.approx([4 / 4, 3 / 4, 2 / 4, 2 / 4, 1 / 4])  # one added to both
    twice = DetectionParams(min_images=2, max_share=1.0)
    assert words_to_detect(captions.blocks(size=2), 9, twice).detected.tolist() == [4, 5]
    with pytest.raises(UserError, match="no word occurs with 4 or more and 3 or fewer of 3 training images"):
        words_to_detect(captions.blocks(), 9, DetectionParams(min_images=4, max_share=1.0))


def test_words_are_detected_in_the_own_channels_of_the_map():
    encoder = tiny_encoder(levels=["layer1"])
    detector, cells = detector_of(encoder), encoder.feature_map(picture_batch().images)
    assert encoder.own_channels < cells.shape[2] == encoder.channels
    other = cells.clone()
    other[..., encoder.own_channels :] += 1
    assert torch.equal(detector.log_probabilities(other), detector.log_probabilities(cells))
    other[..., 0] += 1
    assert not torch.equal(detector.log_probabilities(other), detector.log_probabilities(cells))


@pytest.mark.parametrize("output", ["grid", "pooled"])
def test_pretraining_detects_words_in_any_cell(output):
    encoder = tiny_encoder(output=output)
    params = PretrainParams.model_validate(tiny_params()["pretrain"] | {"precision": "fp32"})
    network = WordDetectionTask(encoder, detector_of(encoder), params).eval()
    images = picture_batch().images
    with torch.inference_mode():
        scores = network.detector.detect(encoder.feature_map(images))  # (image, cell, word)
        expected = torch.prod(1 - torch.sigmoid(scores), dim=1)  # no cell detects it
        torch.testing.assert_close(torch.exp(-network(images)), expected, rtol=1e-3, atol=1e-4)


def pretrained(folder, epochs: int) -> list[dict[str, torch.Tensor]]:
    """The encoder's state after each epoch; the blocks before layer2 learn in the first epoch only."""
    folder.mkdir(exist_ok=True)
    changes = {"epochs": epochs, "front_epochs": 1, "trainable_from": "layer2", "precision": "fp32", "ema": 0.0}
    changes |= {"schedule": "plateau", "decay": 0.8, "patience": 8, "cosine_end": None}
    params = PretrainParams.model_validate(tiny_params()["pretrain"] | changes)
    encoder, states = tiny_encoder(), []
    encoder.train_from(None)
    network = WordDetectionTask(encoder, detector_of(encoder), params)

    def validate() -> dict[str, float]:
        network.eval()
        states.append({name: tensor.clone() for name, tensor in encoder.state_dict().items()})
        return {"score": float(len(states))}

    fit(network, lambda epoch: [picture_batch()] * 12, validate, params, "score", Checkpoints(Workplace(folder)))
    return states


def test_early_blocks_learn_in_the_front_epochs_only(tmp_path):
    one, two, three = pretrained(tmp_path / "whole", 3)
    changed = {name for name in two if not torch.allclose(three[name], two[name], rtol=0, atol=1e-6)}
    assert any(name.startswith("backbone.network.layer2") for name in changed)
    front = tuple(f"backbone.network.{block}" for block in ("conv1", "bn1", "layer1"))
    before = {name for name in two if name.startswith(front)}
    assert before and not before & changed  # batch norm's statistics included
    fresh = tiny_encoder().state_dict()
    first = "backbone.network.conv1.weight"
    assert not torch.allclose(one[first], fresh[first], rtol=0, atol=1e-6)
    pretrained(tmp_path / "parts", 2)
    (resumed,) = pretrained(tmp_path / "parts", 3)
    for name, tensor in three.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize(("enabled", "of"), [("auto", ["none"]), (True, ["none", "DEFAULT"]), (False, [])])
def test_which_encoders_are_pretrained(enabled, of):
    params = PretrainParams.model_validate(tiny_params()["pretrain"] | {"enabled": enabled})
    assert [weights for weights in ("none", "DEFAULT") if params.applies_to(weights)] == of
    assert not params.model_copy(update={"epochs": 0}).applies_to("none")


def test_an_encoder_with_weights_adapts_from_a_block_on_with_its_statistics(tmp_path):
    """No front epochs, frozen norms, a smaller rate: earlier blocks and all statistics are unchanged."""
    changes = {"front_epochs": 0, "trainable_from": "layer2", "batch_norm": "frozen", "encoder_learning_rate": 1e-4}
    changes |= {"precision": "fp32", "ema": 0.0, "least_area": 0.5, "colour": 0.2}
    params = PretrainParams.model_validate(tiny_params()["pretrain"] | changes)
    encoder = tiny_encoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train_from(None, "frozen")
    network = WordDetectionTask(encoder, detector_of(encoder), params)
    assert [group.rate for group in network.groups()] == [1e-4, 0.003]
    places = Checkpoints(Workplace(tmp_path))
    fit(network, lambda epoch: [picture_batch()] * 2, lambda: {"score": 1.0}, params, "score", places)
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all("layer2" in name and "running" not in name for name in changed)


def test_noisy_or_is_stable_for_large_logits():
    scores = torch.cat([torch.randn(3, 8, 5) * 6, torch.tensor([-200.0, 200.0]).view(1, 2, 1).expand(3, 2, 5)], dim=1)
    ours, library = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    weights = torch.randn(3, 5)
    absent, expected = NoisyOr.apply(ours), functional.softplus(library).sum(dim=1)
    torch.testing.assert_close(absent, expected, rtol=1e-6, atol=1e-6)
    (absent * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, library.grad, rtol=1e-6, atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_words_of_all_captions():
    detector = detector_of(tiny_encoder())
    tokens = torch.tensor([[[4, 5, 2], [6, 2, 0]], [[5, 5, 2], [0, 0, 0]], [[7, 7, 7], [7, 7, 7]]])
    mask = torch.tensor([[[1, 1, 1], [1, 1, 0]], [[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]).bool()
    absent = torch.rand(3, 3) * 3
    there = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    expected = functional.binary_cross_entropy(1 - torch.exp(-absent[:2]), there, reduction="sum")
    torch.testing.assert_close(detector.loss(absent, tokens, mask), expected)  # the third image has no captions


def test_log_probabilities_are_those_of_detected_words_and_the_share_of_others():
    detector = detector_of(tiny_encoder())
    cells = torch.randn(2, 5, detector.detect.in_features)
    with torch.no_grad():
        detector.detect.bias[0] = -1e4  # its first word has probability near zero
        found = detector.log_probabilities(cells)
        present = 1 - torch.prod(1 - torch.sigmoid(detector.detect(cells)), dim=1)  # (image, word)
    torch.testing.assert_close(found[:, TOKENS[1:]].exp(), present[:, 1:], rtol=1e-4, atol=1e-6)
    assert found[:, TOKENS[0]].tolist() == pytest.approx([math.log(1e-6)] * 2, rel=1e-3)
    others = [w for w in range(WORDS) if w not in TOKENS]
    assert found[:, others].equal(LOG_SHARE[others].expand(2, -1))


def test_a_detected_word_raises_its_logit_until_it_is_said():
    encoder = tiny_encoder()
    detector, decoder = detector_of(encoder), caption_network(encoder).decoder.eval()
    features = encoder(picture_batch().images)
    hinted, plain = HintedDecoder(decoder, detector, 0.5), decoder.start(features).repeat(2)
    state, hints = hinted.start(features).repeat(2), detector.log_probabilities(features).unsqueeze(1).repeat(1, 2, 1)
    order = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]])
    for word, other in ((1, 1), (4, 5), (6, 4), (7, 7)):  # of the two beams; <start>, detected ones and another
        tokens = torch.tensor([[word, other]]).expand(len(features), 2)
        for image, beam in product(range(len(features)), range(2)):
            token = tokens[image, beam]
            hints[image, beam, token] = min(hints[image, beam, token], LOG_SHARE[token])
        expected, plain = decoder.step(plain, tokens)
        logits, state = hinted.steps()(state, tokens)
        torch.testing.assert_close(logits, expected + 0.5 * hints)
        plain, state = plain.select(order), state.select(order)
        hints = hints.gather(1, order.unsqueeze(2).expand(hints.shape))


def test_fine_tuning_detects_words_beside_the_captions():
    captions, both, batch = finetuned(0.0), finetuned(0.5), picture_batch()
    loss = both.loss(batch)
    with torch.no_grad():
        detected = both.detector.loss(both.detector(both.encoder.feature_map(batch.images)), batch.targets, batch.mask)
    torch.testing.assert_close(loss.detach(), captions.loss(batch).detach() + 0.5 * detected / 4)
    loss.backward()
    learning = (*both.detector.parameters(), *both.encoder.backbone.network.layer2.parameters())
    assert all(p.grad is not None for p in learning)
    assert {name for name in both.weights() if name.startswith("detector.")} == {
        "detector.detect.weight", "detector.detect.bias", "detector.words", "detector.log_share",
    }  # fmt: skip
    learning = [p for p in both.parameters() if p.requires_grad]
    assert sum(len(group.parameters) for group in both.groups()) == len(learning)


def test_an_update_with_detection_in_parts_is_the_same_update():
    network, batch = finetuned(0.5).eval(), picture_batch()  # batch norm depends on the parts
    whole = network.loss(batch)
    dealt = sum(network.loss(part, Counts.of(batch)) for part in parts(batch, 3))
    torch.testing.assert_close(dealt, whole)
