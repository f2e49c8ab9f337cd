"""Updates of a caption network: parts of a batch, what is frozen, what is saved, whether it learns."""

import pytest
import torch
from conftest import stage_params
from tiny_networks import WORDS, caption_network, picture_batch, tiny_encoder
from training_runs import decoder_of, grid_batch, loop_params

from showtell.core.workplace import Workplace
from showtell.data.batches import Batch, pad
from showtell.data.vocabulary import END, START
from showtell.generation.decoding import search_captions
from showtell.generation.search_params import PLAIN
from showtell.learning.caption_task import CaptionTask, TrainParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit, parts
from showtell.learning.training_task import Counts


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


def test_finetuning_changes_all_but_the_frozen_weights(tmp_path):
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


def test_checkpoints_hold_trained_tensors_only():
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


@pytest.mark.parametrize("sampling", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_every_decoder_overfits_a_few_captions(kind, sampling):
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
    if kind == "pre_inject":  # its batch norm has a small momentum: update the statistics
        with torch.no_grad():
            for _ in range(500):
                network.loss(batch)
    network.eval()
    with torch.inference_mode():
        found = search_captions(decoder, batch.images, PLAIN.override(beam=2, max_length=8, allow_unknown=True))
    assert [best.tokens for best, *_ in found] == [tokens[1:-1] for (tokens,) in captions]


@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_an_update_never_waits_for_an_accelerator(kind):
    """On the meta device, which stores shapes only, reading a value is an error."""
    training = {"precision": "fp32", "alpha_c": 1.0, "sampling": 0.5, "word_dropout": 0.2}
    training |= {"sampling_start": 1, "sampling_schedule": "constant"}
    params = TrainParams.model_validate(stage_params("train") | training)
    network = CaptionTask(decoder_of(kind, WORDS), params).to("meta")
    network.begin_epoch(1)
    batch = grid_batch().to(torch.device("meta"))
    network.loss(batch, Counts.of(batch)).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
