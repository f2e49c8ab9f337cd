"""`check`: networks that cannot be built are refused before DVC clears anything."""

import pytest
import torch
from conftest import inside, run_stage, write_params
from decoder_systems import unread

from showtell.core.errors import UserError
from showtell.encoders.weights import bare_network
from showtell.learning import model_check

CLIP = {"clip_model": "ViT-B-32", "clip_weights": "openai"}

WORDS_OF_OTHERS = "search.detection_weight weighs the words of similar training images: no detector of words is trained"


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"finetune": {"trainable_from": "nowhere"}}, r"finetune\.trainable_from: regnet_x_400mf has no block"),
        ({"pretrain": {"trainable_from": "nowhere"}}, r"pretrain\.trainable_from: regnet_x_400mf has no block"),
        ({"encoder": {"weights": "none", "node": "nowhere"}}, r"no layer 'nowhere' \(encoder\.node\)"),
        ({"encoder": {"weights": "IMAGENET"}}, r"encoder\.weights = 'IMAGENET': regnet_x_400mf knows DEFAULT"),
        ({"encoder": {"weights": "missing.pth"}}, "missing.pth': no such file"),
        ({"encoder": {"weights": "other.pth"}}, "does not hold a state dict of regnet_x_400mf"),
        ({"encoder": {"name": "renset18"}}, r"encoder\.name = 'renset18' is not a classification model"),
        ({"encoder": {"output": "pooled", "crop": 200}}, r"encoder\.crop = 200 is more than the images have"),
        ({"encoder": {"output": "pooled"}}, r"decoder\.kind = attention needs a grid"),
        ({"decoder": {"grid": 100_000}}, r"decoder\.grid = 100000"),
        ({"decoder": {"embeddings": "missing.txt"}}, r"decoder\.embeddings = .*missing\.txt': no such file"),
        ({"evaluate": {"ensemble": ["nofolder"]}}, r"evaluate\.ensemble: .*nofolder holds no model"),
        ({"evaluate": CLIP | {"clip_model": "NoSuchClip"}}, "'NoSuchClip' is not a model of open_clip"),
        ({"evaluate": CLIP | {"clip_weights": "nofile.pt"}}, r"CLIP weights '.*nofile\.pt': no such file"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_built_are_refused_by_check(tmp_path, overlay, message):
    torch.save(bare_network("squeezenet1_1").state_dict(), tmp_path / "other.pth")
    write_params(tmp_path, **overlay)
    with pytest.raises(UserError, match=message):
        run_stage("check", tmp_path)
    assert not (tmp_path / "data/checked.txt").exists()


def test_weights_of_drawings_with_other_pictures_are_told(tmp_path, capsys):
    rewards = {"truth": 0.0, "chair": 0.0}
    write_params(tmp_path, dataset="coco", encoder={"weights": "scenes"}, resize={"size": 128}, reinforce=rewards)
    run_stage("check", tmp_path)
    assert "scenes have seen drawings only, and dataset coco is another" in capsys.readouterr().err


def test_a_weight_for_words_that_nothing_detects_is_told(tmp_path, capsys):
    for told, finetune in ((False, {"epochs": 1, "word_loss": 0.1}), (True, {"epochs": 1, "word_loss": 0.0})):
        write_params(tmp_path, pretrain={"enabled": False}, finetune=finetune, search={"detection_weight": 0.5})
        run_stage("check", tmp_path)
        assert (WORDS_OF_OTHERS in capsys.readouterr().err) == told


def test_settings_of_learning_that_do_nothing_are_told(tmp_path, capsys):
    words = {"epochs": 1, "word_loss": 0.1}
    sampling = {"sampling": 0.5, "sampling_start": 9, "sampling_schedule": "constant"}
    decoder = unread("pre_inject") | {"kind": "pre_inject", "image_projection": "linear"}
    write_params(
        tmp_path, encoder={"output": "pooled"}, decoder=decoder, finetune=words, train={"epochs": 2},
        learning={"alpha_c": 1.0, **sampling}, beam=None,
        search={"detection_weight": 0.5, "consensus": 2.0, "neighbour_bonus": 1.0, "method": "sample",
                "temperature": 1.0, "seed": 1},
    )  # fmt: skip
    run_stage("check", tmp_path)
    told = capsys.readouterr().err
    for setting in ("learning.alpha_c", "learning.sampling", "search.consensus", "search.neighbour_bonus"):
        assert f"{setting} does nothing: " in told
    assert WORDS_OF_OTHERS in told


def test_models_that_stages_write_may_be_absent_still(tmp_path):
    write_params(tmp_path, evaluate={"ensemble": ["data/models/train"]})
    run_stage("check", tmp_path)
    assert (tmp_path / "data/checked.txt").exists()


def test_accepted_networks_are_not_built_again(tmp_path, monkeypatch):
    write_params(tmp_path)
    run_stage("check", tmp_path)
    built = []
    monkeypatch.setattr(model_check, "_build", built.append)
    write_params(tmp_path, beam=3, train={"epochs": 1})
    run_stage("check", tmp_path)
    assert not built
    write_params(tmp_path, finetune={"trainable_from": "trunk_output.block4"})
    run_stage("check", tmp_path)
    assert len(built) == 1


def test_weights_are_checked_again_when_their_file_changes(tmp_path):
    path = tmp_path / "own.pth"
    torch.save(bare_network("regnet_x_400mf").state_dict(), path)
    write_params(tmp_path, encoder={"weights": "own.pth"})
    run_stage("check", tmp_path)
    torch.save(bare_network("squeezenet1_1").state_dict(), path)
    with pytest.raises(UserError, match="does not hold a state dict"):
        run_stage("check", tmp_path)


def test_paths_are_relative_to_the_repository_in_a_queued_experiment(tmp_path):
    """DVC runs it in a copy of tracked files below .dvc/tmp."""
    torch.save(bare_network("regnet_x_400mf").state_dict(), tmp_path / "own.pth")
    copy = tmp_path / ".dvc/tmp/exps/one"
    copy.mkdir(parents=True)
    write_params(copy, encoder={"weights": "own.pth"})
    with inside(copy):
        run_stage("check", copy)
    assert (copy / "data/checked.txt").exists()
