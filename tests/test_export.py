"""Exported graphs: the same transform, search and captions as the model, for every decoder."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from export_models import MODELS, captioner, kept_conversions, picture, says_after  # noqa: F401
from PIL import Image

from showtell.core.errors import UserError
from showtell.data.transform import Transform
from showtell.data.vocabulary import END, START
from showtell.generation.graphs import graph_writer
from showtell.generation.onnx_captioner import OnnxCaptioner

for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package, reason="the extra `onnx` is not installed")


def test_settings_that_the_graph_cannot_take_are_one_line(tmp_path):
    own = captioner("attention")
    graph_writer.export_whole(own.model, own.search, tmp_path / "model.onnx")
    exported = OnnxCaptioner(tmp_path / "model.onnx")
    wrong = {
        "beam = 2.5: must be a whole number": {"beam": 2.5}, "beam = None: must be a whole number": {"beam": None},
        "beam = '3': must be a whole number": {"beam": "3"},
        "length_penalty = '1': must be a number": {"length_penalty": "1"},
        "beam = 0: must be 1 to 100": {"beam": 0}, "min_length is fixed in": {"min_length": 2},
        "bogus is not a setting of the search; there are": {"bogus": 1},
    }  # fmt: skip
    for message, settings in wrong.items():
        with pytest.raises(UserError, match=message):
            exported.check(**settings)
    exported.check(beam=np.int64(2), length_penalty=1, method=own.search.method)


@pytest.mark.parametrize("name", MODELS)
def test_the_search_in_the_graph_equals_the_models(name, tmp_path):
    own = captioner(name)
    graph_writer.export_whole(own.model, own.search, tmp_path / "model.onnx")
    exported = OnnxCaptioner(tmp_path / "model.onnx")
    shortest, said = own.search.min_length, set()
    for beam, longest, penalty, seed in product((1, 2, 5), (shortest, 6, 12), (0.0, 0.8), range(3)):
        pixels = picture(32, 57 if own.model.transform.fit == "crop" else 32, seed)  # nothing to resize
        settings = {"beam": beam, "max_length": longest, "length_penalty": penalty}
        ours, theirs = own.caption([pixels], attention=False, **settings)[0], exported.caption(pixels, **settings)
        assert (theirs.words, theirs.finished) == (ours.words, ours.finished), settings
        assert theirs.score == pytest.approx(ours.score, abs=1e-3), settings
        said.add(theirs.text)
    assert len(said) > 1, "captions must depend on picture or settings"
    for size in ((32, 50), (90, 41), (7, 9), (200, 131)):
        settings = {"beam": 1, "max_length": shortest}
        ours = own.caption([picture(*size)], attention=False, **settings)[0]
        theirs = exported.caption(picture(*size), **settings)
        assert theirs.score == pytest.approx(ours.score, abs=0.05), size
    assert exported.caption(pixels) == exported.caption(pixels, beam=own.search.beam, max_length=12)


def test_the_graphs_search_has_the_models_patience(tmp_path):
    """By hand, with a beam of 1: a caption ends at once with probability 0.3; the next best, 0.25, begins with a word
    after which it ends with 0.9, which is better for each word. Only a search with patience goes on to it."""
    probabilities = torch.full((16, 16), 1e-9)
    probabilities[START] = 0.45 / 14
    probabilities[START, END], probabilities[START, 5] = 0.3, 0.25
    probabilities[5] = 0.1 / 15
    probabilities[5, END] = 0.9
    own, pixels = says_after(probabilities.log()), picture(32, 32)
    for patience, words in ((None, []), (1.0, []), (2.0, [own.model.vocabulary.words[5]])):
        search = own.search.override(patience=patience, beam=1, length_penalty=1.0)
        graph_writer.export_whole(own.model, search, tmp_path / "model.onnx")
        ours = own.searching(search).caption([pixels], attention=False)[0]
        theirs = OnnxCaptioner(tmp_path / "model.onnx").caption(pixels)
        assert ours.words == theirs.words == words
        assert theirs.score == pytest.approx(ours.score, abs=1e-3)


def test_the_graphs_search_goes_on_while_a_longer_caption_may_be_better(tmp_path):
    """By hand: a caption ends at once with probability 0.2; with 0.1 it begins with a word that five sure ones follow,
    which is better for each word, though worse when the first has ended."""
    probabilities = torch.full((16, 16), 1e-9)
    probabilities[START] = 0.7 / 14
    probabilities[START, END], probabilities[START, 5] = 0.2, 0.1
    for word in range(5, 10):
        probabilities[word, word + 1] = 1
    probabilities[10, END] = 1
    own = says_after(probabilities.log())
    graph_writer.export_whole(own.model, own.search, tmp_path / "model.onnx")
    exported = OnnxCaptioner(tmp_path / "model.onnx")
    pixels = picture(32, 32)
    for penalty, words in ((0.0, 0), (1.0, 6)):
        settings = {"beam": 2, "max_length": 12, "length_penalty": penalty}
        ours, theirs = own.caption([pixels], attention=False, **settings)[0], exported.caption(pixels, **settings)
        assert len(ours.words) == len(theirs.words) == words
        assert theirs.score == pytest.approx(ours.score, abs=1e-3)


@pytest.mark.parametrize(
    ("after", "free", "blocked"),
    [
        ({START: [5], 5: [6, END], 6: [5]}, [5, 6, 5, 6, 5, 6], [5, 6]),  # "white and white"
        ({START: [5], 5: [7, 8], 7: [6], 6: [5], 8: [END]}, [5, 7, 6, 5, 7, 6], [5, 7, 6, 5, 8]),  # "a man and a man"
    ],
)
def test_words_are_not_repeated_around_another(after, free, blocked, tmp_path):
    """By hand: after a word its first follower has probability 0.8, the others 0.2; word 6 is the one between."""
    probabilities = torch.full((16, 16), 1e-9)
    for word, followers in after.items():
        for probability, follower in zip((0.8, 0.2), followers, strict=False):
            probabilities[word, follower] = probability
    probabilities[6, END] = 1e-3  # where all else is forbidden
    own = says_after(probabilities.log())
    own.search = own.search.override(method="greedy", max_length=6)
    words, pixels = own.model.vocabulary.words, picture(32, 32)
    for around, expected in ((None, free), (words[6], blocked), ("absent", free)):
        search = own.search.override(block_around=around)
        graph_writer.export_whole(own.model, search, tmp_path / "model.onnx")
        told = own.caption([pixels], attention=False, block_around=around)[0].words
        assert told == OnnxCaptioner(tmp_path / "model.onnx").caption(pixels).words == [words[t] for t in expected]
    with pytest.raises(UserError, match=r"beam = 2: .* was exported with search\.method greedy"):
        OnnxCaptioner(tmp_path / "model.onnx").caption(pixels, beam=2)


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_the_transform_in_the_graph_equals_the_models(fit, filter_):
    import onnx
    import onnxruntime

    from showtell.generation.graphs.onnx_files import transform_file

    transform = Transform(48, fit, filter_)
    file = transform_file(transform)
    onnx.checker.check_model(file, full_check=True)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((48, 48), (1, 1), (1, 200), (90, 41), (300, 411), (20, 30), (49, 640)):
        pixels = picture(*size, seed=size[1])
        (found,) = session.run(None, {"pixels": pixels})
        difference = np.abs(found[0].astype(int) - transform(Image.fromarray(pixels)))
        assert difference.max() <= 2 and difference.mean() < 0.1, size


def own_loop(encode, step, pixels: np.ndarray, words: int = 12) -> list[int]:
    """Greedy search with the exported encoder and step, as another program would use them."""
    fixed_and_state, tokens, said = encode(pixels), np.array([[START]]), []
    while len(said) < words:
        logprobs, *state = step(tokens, np.array([[0]]), *fixed_and_state)
        fixed_and_state = [*fixed_and_state[: len(fixed_and_state) - len(state)], *state]
        tokens = logprobs.argmax(axis=2)
        if tokens[0, 0] == END:
            break
        said.append(int(tokens[0, 0]))
    return said


def onnx_function(path: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *tensors: session.run(None, dict(zip(names, tensors, strict=True)))


def torch_function(path: Path):
    module = torch.export.load(path).module()
    return lambda *tensors: [x.detach().numpy() for x in module(*map(torch.from_numpy, tensors))]


@pytest.mark.parametrize(("name", "kind"), [("attention", "torch"), ("transformer", "onnx")])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of torch
def test_exported_encoder_and_step_work_in_another_loop(name, kind, tmp_path):
    own, folder = captioner(name), tmp_path / "parts"
    search = own.search.override(block_ngrams=0)
    {"onnx": graph_writer.export_parts, "torch": graph_writer.export_torch}[kind](own.model, search, folder)
    suffix, load = ("onnx", onnx_function) if kind == "onnx" else ("pt2", torch_function)
    assert sorted(path.name for path in folder.iterdir()) == [f"encoder.{suffix}", f"step.{suffix}"]
    encode, step = load(folder / f"encoder.{suffix}"), load(folder / f"step.{suffix}")
    for seed, size in enumerate(((32, 32), (57, 80), (90, 41))):
        pixels = picture(*size, seed)
        ours = own.caption([pixels], attention=False, method="greedy", block_ngrams=0)[0]
        assert own.model.vocabulary.decode(own_loop(encode, step, pixels)) == ours.words
