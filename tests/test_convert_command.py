"""`showtell convert`: converted models give the tutorials' captions, and no code in a file is executed."""

import os

import numpy as np
import pytest
import torch
import tutorial_models as tutorials
from PIL import Image

from showtell.commands import cli
from showtell.core.errors import UserError
from showtell.generation.captioner import Captioner


def convert(*files) -> int:
    return cli.dispatch(["convert", *map(str, files)])


@pytest.fixture
def photos(tmp_path):
    """Pictures of the models' input sizes, since libraries resize differently."""

    def make(size: int):
        paths = []
        for number in range(4):
            rng = np.random.default_rng(number)
            soft = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((size, size))
            paths.append(tmp_path / f"{size}-{number}.png")
            soft.save(paths[-1])
        return paths

    return make


@pytest.mark.parametrize("modern", [True, False])
def test_show_attend_and_tell_equals_the_tutorials_beam_search(tmp_path, photos, modern):
    checkpoint, wordmap = tutorials.save_attend(tmp_path, seed=3, modern=modern)
    assert convert(checkpoint, wordmap, tmp_path / "model") == 0
    captioner = Captioner.load(tmp_path / "model")
    expected = [tutorials.attend_caption(3, path) for path in photos(256)]
    assert [caption.words for caption in captioner.caption(photos(256))] == expected
    assert len({tuple(words) for words in expected}) > 1, "the oracle must depend on the picture"


def test_the_first_tutorial_equals_its_own_greedy_search(tmp_path, photos):
    assert convert(*tutorials.save_inject(tmp_path, seed=1), tmp_path / "model") == 0
    expected = [tutorials.inject_caption(1, path) for path in photos(224)]
    assert [caption.words for caption in Captioner.load(tmp_path / "model").caption(photos(224))] == expected
    assert any(expected)


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_checkpoint_is_one_line_and_runs_nothing(tmp_path):
    checkpoint, wordmap = tutorials.save_attend(tmp_path)
    torch.save({"encoder": Hostile(tmp_path / "ran"), "decoder": Hostile(tmp_path / "ran")}, checkpoint)
    with pytest.raises(UserError, match=r"BEST_checkpoint.pth.tar holds no ResNet that the tutorials use"):
        convert(checkpoint, wordmap, tmp_path / "model")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "model").exists()


def test_what_is_wrong_with_an_encoder_is_told(tmp_path):
    encoder, decoder, *rest = tutorials.save_inject(tmp_path, seed=1)
    with pytest.raises(UserError, match="it looks like the decoder: the encoder comes first"):
        convert(decoder, encoder, *rest, tmp_path / "model")
    state = torch.load(encoder, weights_only=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, encoder)
    with pytest.raises(UserError, match=r"its names begin with module\.: save model\.module\.state_dict\(\)"):
        convert(encoder, decoder, *rest, tmp_path / "model")


def test_a_small_file_cannot_ask_for_a_large_decoder(tmp_path):
    """Its sizes multiply: 65,536 for each of three, in vectors of one number each, are a decoder of 70 GB."""
    checkpoint, wordmap = tutorials.save_attend(tmp_path)
    content = torch.load(checkpoint, weights_only=False)
    content["decoder"].decode_step.weight_hh = torch.nn.Parameter(torch.zeros(1, 65_536))
    content["decoder"].embedding.weight = torch.nn.Parameter(torch.zeros(14, 65_536))
    content["decoder"].attention.encoder_att.weight = torch.nn.Parameter(torch.zeros(65_536, 1))
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=r"key\.weight is not a tensor of finite numbers of size \(65536, 512\)"):
        convert(checkpoint, wordmap, tmp_path / "model")


def test_vocabularies_of_another_size_are_refused(tmp_path):
    checkpoint, wordmap = tutorials.save_attend(tmp_path)
    wordmap.write_text('{"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "a": 4}')
    with pytest.raises(UserError, match="is of 14 words, the map of words has 5"):
        convert(checkpoint, wordmap, tmp_path / "model")
    wordmap.write_text(wordmap.read_text().replace('"a"', r'"\ud800"'))
    with pytest.raises(UserError, match="a word is not valid Unicode"):
        convert(checkpoint, wordmap, tmp_path / "model")
    wordmap.write_text('{"<pad>": 0, "a": 4}')
    with pytest.raises(UserError, match="do not have the numbers 0 to 1, one each"):
        convert(checkpoint, wordmap, tmp_path / "model")


def test_weights_of_words_that_are_one_number_are_refused(tmp_path):
    checkpoint, wordmap = tutorials.save_attend(tmp_path)
    content = torch.load(checkpoint, weights_only=False)
    content["decoder"].fc.bias = torch.nn.Parameter(torch.tensor(1.0))
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match="is of 1 words, the map of words has 14"):
        convert(checkpoint, wordmap, tmp_path / "model")


def test_the_help_names_what_is_read(capsys):
    with pytest.raises(SystemExit, match="0"):
        convert("--help")
    said = "".join(capsys.readouterr().out.split())  # lines end at hyphens too
    read = ["BEST_checkpoint_*.pth.tar", "WORDMAP_*.json", "vocab.pkl", "show-attend-tell", "resnet152-lstm"]
    classes = [tutorials.DecoderWithAttention, tutorials.EncoderCNN, tutorials.DecoderRNN, tutorials.Vocabulary]
    assert all(name in said for name in [*read, *(kind.__name__ for kind in classes)])


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    checkpoint, wordmap = tutorials.save_attend(tmp_path)
    before = sorted(tmp_path.iterdir())

    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("showtell.generation.bundle.serve_model", fails)
        with pytest.raises(OSError, match="No space left"):
            convert(checkpoint, wordmap, tmp_path / "model")
    assert sorted(tmp_path.iterdir()) == before
    convert(checkpoint, wordmap, tmp_path / "model")


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        convert("a", "b", tmp_path / "model")
