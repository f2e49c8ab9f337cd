import io
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_model import WORDS, tiny_captioner

from showtell import Captioner
from showtell.core.errors import UserError
from showtell.data.vocabulary import Vocabulary
from showtell.encoders.detection import WordDetector, Words
from showtell.generation.bundle import load_model, save_model
from showtell.generation.image_inputs import as_picture


def picture(seed=0, size=(90, 70)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    save_model(tiny_captioner().model, folder, notes={"cider": 0.5})
    return folder


@pytest.fixture
def bundle(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def test_every_kind_of_image_gets_the_same_caption(tmp_path):
    captioner, image = tiny_captioner(), picture()
    pixels = np.asarray(image)
    image.save(tmp_path / "photo.png")
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    kinds = [
        image, pixels, tensor, tensor / 255, pixels / 255, tmp_path / "photo.png", str(tmp_path / "photo.png"),
        (tmp_path / "photo.png").read_bytes(),
    ]  # fmt: skip
    first, *others = captioner.caption(kinds, beam=3)
    assert first.text and all(other.text == first.text for other in others)
    assert all(other.logprob == pytest.approx(first.logprob, abs=1e-4) for other in others)


def test_grey_images():
    grey = np.asarray(picture().convert("L"))
    tensor = torch.from_numpy(grey.copy())
    texts = [c.text for c in tiny_captioner().caption([grey, grey[:, :, None], tensor, tensor[None]], beam=2)]
    assert len(set(texts)) == 1


def test_a_tensor_of_many_images_is_many_images():
    images = torch.randint(0, 256, (3, 3, 80, 80), dtype=torch.uint8)
    assert len(tiny_captioner().caption(images, beam=2)) == 3


def test_more_images_than_fit_one_batch_from_an_iterator():
    images = [picture(seed) for seed in range(35)]
    together = tiny_captioner().caption(iter(images), beam=2)
    assert len(together) == 35
    alone = tiny_captioner().caption([images[34]], beam=2)[0]
    assert alone.text == together[34].text
    assert tiny_captioner().caption([]) == []


def test_n_best_are_different_and_ranked_and_the_first_has_attention_for_each_word():
    best = tiny_captioner().n_best([picture()], beam=4, n_best=4, max_length=6)[0]
    assert len({caption.text for caption in best}) == 4
    assert all(caption.text.split() == caption.words for caption in best)
    assert len(best[0].attention) == len(best[0].words)
    np.testing.assert_allclose(best[0].attention.sum(axis=1), 1, atol=1e-5)
    assert all(caption.attention is None for caption in best[1:])
    assert [c.score for c in best if c.finished] == sorted((c.score for c in best if c.finished), reverse=True)


def test_a_model_that_does_not_attend_has_no_attention():
    caption = tiny_captioner().caption([picture()], attention=False)[0]
    assert caption.attention is None and caption.text


@pytest.mark.parametrize("single", ["photo.jpg", picture(), np.zeros((9, 9, 3), np.uint8), torch.zeros(3, 9, 9),
                                    bytearray(b"x"), io.BytesIO(b"x")])  # fmt: skip
def test_a_single_image_outside_a_list_is_refused(single):
    with pytest.raises(UserError, match=r"put a single one in a list"):
        tiny_captioner().caption(single)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5, 7), np.uint8),
        np.zeros((5, 5, 3), np.int64),
        np.full((5, 5, 3), 2.0),
        np.full((5, 5, 3), np.nan),
        torch.zeros(5, 5, 3),
        "no such file.jpg",
        b"not a picture",
        None,
        3,
    ],
)
def test_other_objects_than_images_are_refused_in_one_line(image):
    with pytest.raises(UserError) as caught:
        tiny_captioner().caption([image])
    assert "\n" not in str(caught.value)


def test_captions_are_compared_and_in_sets():
    first, again, other = tiny_captioner().caption([picture(), picture(), picture(seed=3)])
    assert first == again and len({first, again}) == 1 and first != replace(first, text="another")
    assert other in [other]


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12))
def test_float_images_equal_their_uint8_images(height, width):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(as_picture((pixels / 255).astype(np.float32)), pixels)


def test_a_loaded_model_gives_the_same_captions(saved):
    loaded = Captioner.load(saved)
    images = [picture(seed) for seed in range(3)]
    before, after = tiny_captioner().caption(images), loaded.caption(images)
    assert [c.text for c in before] == [c.text for c in after]
    assert loaded.model.hash() == tiny_captioner().model.hash()
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors", "vocab.json"]


def with_detector(missing: str) -> Captioner:
    """A captioner with a detector of one word, whose probability is near zero for every picture."""
    model = tiny_captioner().model
    token = model.vocabulary.words.index(missing)
    detector = WordDetector(model.encoder, Words(torch.tensor([token]), torch.zeros(len(model.vocabulary))))
    with torch.no_grad():
        detector.detect.weight.zero_()
        detector.detect.bias.fill_(-1e4)
    return Captioner(replace(model, detector=detector))


def test_words_that_are_not_detected_are_not_generated(tmp_path):
    images = [picture(seed) for seed in range(6)]
    alone = tiny_captioner().caption(images, beam=3)
    missing = alone[0].words[0]
    captioner = with_detector(missing)
    said = {weight: captioner.caption(images, beam=3, detection_weight=weight) for weight in (0.0, 10.0)}
    assert [c.words for c in said[0.0]] == [c.words for c in alone]
    assert not any(missing in c.words for c in said[10.0])
    save_model(captioner.model, tmp_path, notes={})
    again = Captioner.load(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["detector"] == {"words": 1}
    assert again.model.hash() == captioner.model.hash() != tiny_captioner().model.hash()
    assert [c.words for c in again.caption(images, beam=3, detection_weight=10.0)] == [c.words for c in said[10.0]]


def test_an_ensemble_adds_the_detected_words_of_each_model():
    images = [picture(seed) for seed in range(4)]
    missing = tiny_captioner().caption(images, beam=3)[0].words[0]
    captioner = with_detector(missing)
    alone = captioner.caption(images, beam=3, detection_weight=10.0)
    without = tiny_captioner().caption(images, beam=3)
    twice, once = (
        Captioner(captioner.model, others=[other]).caption(images, beam=3, detection_weight=10.0)
        for other in (captioner.model, tiny_captioner().model)
    )
    assert [c.words for c in twice] == [c.words for c in alone] != [c.words for c in without]
    assert [c.logprob for c in twice] == pytest.approx([c.logprob for c in alone], abs=1e-4)
    assert not any(missing in c.words for c in once)  # half of the weight is enough


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detection_weight": 2.0}, "detection_weight = 2: no detector of words was trained with this model"),
        ({"method": "greedy", "consensus": 1.0}, "consensus = 1: it ranks the captions of a beam, and"),
        ({"method": "sample", "consensus": 1.0}, "consensus = 1: it ranks the captions of a beam, and"),
    ],
)
def test_weights_that_would_change_nothing_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        tiny_captioner().caption([picture(0)], **settings)
    # stored settings stand: they may be of another method, or of a model with a detector
    stored = tiny_captioner().search.override(**settings)
    assert tiny_captioner().searching(stored).caption([picture(0)])


def test_saving_a_model_twice_gives_the_same_bytes(saved, tmp_path):
    save_model(load_model(saved), tmp_path / "again", notes={"cider": 0.5})
    for path in saved.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def refusal(folder):
    with pytest.raises(UserError) as caught:
        Captioner.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edited(bundle, **changes):
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, **changes}))
    return config


def test_another_vocabulary_is_refused_naming_both(bundle):
    other = Vocabulary(WORDS[::-1], range(len(WORDS)))
    other.save(bundle / "vocab.json")
    message = refusal(bundle)
    assert other.hash in message and tiny_captioner().model.vocabulary.hash in message


def test_weights_of_another_model_that_would_fit_are_refused(bundle):
    other = Vocabulary(WORDS[::-1], range(len(WORDS)))
    other.save(bundle / "vocab.json")
    edited(bundle, vocabulary=other.hash)
    message = refusal(bundle)
    assert other.hash in message and tiny_captioner().model.vocabulary.hash in message


def test_another_transform_is_refused_naming_both(bundle):
    edited(bundle, transform={"size": 96, "fit": "stretch", "filter": "bilinear"})
    message = refusal(bundle)
    assert "64" in message and "96" in message
    edited(bundle, transform={"size": 64, "fit": "crop", "filter": "bilinear"})
    assert "transform" in refusal(bundle)


def test_weights_of_another_shape_are_refused(bundle):
    config = edited(bundle)
    edited(bundle, decoder={**config["decoder"], "hidden": 20})
    assert "size mismatch" in refusal(bundle)


def test_a_newer_format_is_refused_naming_both(bundle):
    edited(bundle, format=99)
    assert "99" in refusal(bundle) and "reads 2" in refusal(bundle)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', "no json"])
def test_a_broken_configuration_is_refused(bundle, content):
    (bundle / "config.json").write_text(content)
    refusal(bundle)


def test_unknown_settings_are_refused(bundle):
    config = edited(bundle)
    edited(bundle, decoder={**config["decoder"], "wings": 2})
    assert "wings" in refusal(bundle)


def test_a_folder_without_a_model(tmp_path):
    assert "holds no model" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
def test_cut_or_missing_files_are_refused(bundle, name):
    path = bundle / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(bundle)
    path.unlink()
    refusal(bundle)


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.write_text, (Path(self.trace), "it ran")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
@pytest.mark.parametrize("save", [lambda thing: pickle.dumps(thing), "torch"])
def test_a_malicious_pickle_does_not_run(bundle, tmp_path, name, save):
    trace = tmp_path / "trace"
    if save == "torch":
        torch.save(Malice(trace), bundle / name)
    else:
        (bundle / name).write_bytes(save(Malice(trace)))
    refusal(bundle)
    assert not trace.exists()
    # The test can fail: unpickling the object makes the file.
    pickle.loads(pickle.dumps(Malice(trace)))
    assert trace.exists()
