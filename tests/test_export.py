"""`showtell export`: graphs say what the model says, whatever the decoder, the search and the size of the picture."""

import json
import re
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_params
from PIL import Image
from tiny_model import WORDS

from showtell.commands import cli
from showtell.core.errors import UserError
from showtell.data.transform import Transform
from showtell.data.vocabulary import END, START, Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.detection import WordDetector
from showtell.encoders.network import Encoder
from showtell.generation.bundle import save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.graphs import graph_writer
from showtell.generation.model import Model
from showtell.generation.onnx_captioner import SETTINGS, OnnxCaptioner
from showtell.generation.search_params import PLAIN, SearchParams

for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package, reason="the extra `onnx` is not installed")

INJECT = {
    "attention": None, "attention_kind": None, "grid": None, "normalise_grid": None, "context_output": None,
    "initial_tanh": None,
}  # fmt: skip
TRANSFORMER = INJECT | {
    "kind": "transformer", "cell": None, "layers": 2, "heads": 2, "feed_forward": 12, "positions": "sinusoidal",
    "grid_layers": 1, "memory_slots": 2, "normalise_grid": True,
}  # fmt: skip

# Decoder, search, and the encoder's rest: each is a way of its own through the graph.
MODELS: dict[str, tuple[dict, dict, dict]] = {
    "attention": ({}, {"block_ngrams": 2, "detection_weight": 0.7}, {}),
    "attention, hard, GRU of two layers, pooled grid": (
        {"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.1, "cell": "gru", "layers": 2, "grid": 3},
        {"block_ngrams": 1, "min_length": 4}, {"fit": "crop"},
    ),
    "pre_inject": (
        INJECT | {"kind": "pre_inject", "image_projection": "batch_norm"}, {"min_length": 3, "block_ngrams": 3},
        {"output": "pooled", "node": None, "filter": "bicubic"},
    ),
    "init_inject": (
        INJECT | {"kind": "init_inject", "image_projection": "prelu", "cell": "gru", "initial_tanh": True},
        {"allow_unknown": True}, {},
    ),
    "transformer": (TRANSFORMER, {"block_ngrams": 2, "detection_weight": 0.5}, {}),
    "vision transformer": ({}, {}, {"name": "timm/test_vit", "node": None}),
}  # fmt: skip


@cache
def captioner(name: str) -> Captioner:
    """A model with random weights, large enough that its captions are about the picture."""
    decoder, search, more = MODELS[name]
    if more.get("name", "").startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(3)
    config = {"name": "resnet18", "output": "grid", "node": "layer2", "size": 32} | {
        key: value for key, value in more.items() if key in ("name", "output", "node")
    }
    encoder = Encoder(config | {"mean": ImageStatistics().mean, "std": ImageStatistics().std})
    params = DecoderParams.model_validate(tiny_params()["decoder"] | decoder)
    vocabulary = Vocabulary(WORDS, range(len(WORDS), 0, -1))
    built = build_decoder(params, encoder.channels, len(vocabulary))
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(3)
        for module in built.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
    detector = None
    if search.get("detection_weight"):
        detector = WordDetector(encoder, torch.tensor([4, 6, 9]), len(vocabulary))
    transform = Transform(32, more.get("fit", "stretch"), more.get("filter", "bilinear"))
    model = Model(encoder, built, params, vocabulary, transform, "fp32", detector)
    return Captioner(model, PLAIN.override(max_length=12, detection_weight=0.0).override(**search))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(soft)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The folder of the attention model, as `evaluate` leaves one."""
    folder, own = tmp_path_factory.mktemp("bundle") / "model", captioner("attention")
    save_model(own.model, folder, notes={})
    serve_model(folder, folder, own.search, scores={})
    return folder


@pytest.fixture(scope="module")
def graph(bundle) -> Path:
    """The same model as `showtell export` writes it."""
    path = bundle.parent / "model.onnx"
    assert cli.dispatch(["export", str(bundle), str(path)]) == 0
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(picture(75, 100, seed=5)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("name", MODELS)
def test_the_search_in_the_graph_is_ours(name, tmp_path):
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


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_the_transform_in_the_graph_is_ours(fit, filter_):
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
    """Greedy, by encoder and step: what somebody else's program does with them."""
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
def test_encoder_and_step_serve_a_loop_of_ones_own(name, kind, tmp_path):
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


def run_without_torch(*arguments: str) -> subprocess.CompletedProcess:
    code = "import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")}
    )


def test_captions_without_torch(graph, bundle, photo, tmp_path, capsys):
    (tmp_path / "broken.png").write_text("no picture")
    (tmp_path / "command.py").write_text("from showtell.commands import cli; cli.main(sys.argv[1:])")
    pictures = [str(photo), str(tmp_path / "broken.png")]
    flags = ["--beam", "2", "--max-length", "7", "--length-penalty", "0.5"]
    assert cli.dispatch(["caption", *pictures, "--model", str(bundle), *flags]) == 1
    expected = capsys.readouterr()
    model = ["--model", str(graph), "--runtime", "onnx"]
    done = run_without_torch(str(tmp_path / "command.py"), "caption", *pictures, *model, *flags)
    assert (done.returncode, done.stdout, done.stderr) == (1, expected.out, expected.err)
    done = run_without_torch(str(tmp_path / "command.py"), "caption", *pictures[:1], *model, "--json")
    assert json.loads(done.stdout)["caption"] == Captioner.load(bundle).caption([photo])[0].text


def test_the_example_of_the_documentation(graph, bundle, photo, tmp_path):
    text = (ROOT / "docs/export.md").read_text()
    example = re.search(r"\n((?:    .*\n|\n)*    import onnxruntime\n(?:    .*\n|\n)*)", text)[1]
    lines = [line[4:] for line in example.splitlines() if line.strip()]
    assert len(lines) <= 20
    (tmp_path / "example.py").write_text("\n".join(lines))
    done = run_without_torch(str(tmp_path / "example.py"), str(graph), str(photo))
    assert (done.stderr, done.stdout.strip()) == ("", Captioner.load(bundle).caption([photo])[0].text)


def test_a_graph_that_differs_is_not_written(bundle, tmp_path, monkeypatch):
    honest = OnnxCaptioner.caption
    monkeypatch.setattr(OnnxCaptioner, "caption", lambda *a: honest(*a)._replace(text="a lie", score=-99.0))
    with pytest.raises(UserError, match=r"the exported graph differs from the model: it says 'a lie' \(-99.0000\)"):
        cli.dispatch(["export", str(bundle), str(tmp_path / "model.onnx")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OUT", "--method", "sample"], "search.method sample cannot be exported: choose --method beam or greedy"),
        (["OUT", "--method", "diverse_beam"], "search.method diverse_beam cannot be exported"),
        (["out.pt"], "the name of an ONNX file must end in .onnx"),
        (["OUT", "--parts"], "encoder and step are two files; name a folder for them"),
        (["full", "--parts"], "exists already"),
        (["OUT", "--beam", "0"], "beam = 0"),
        (["OUT", "--precision", "bf16"], "precision = bf16: exported graphs compute in fp32"),
    ],
)
def test_what_cannot_be_exported(bundle, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    given = ["out.onnx" if argument == "OUT" else argument for argument in arguments]
    with pytest.raises(UserError, match=message):
        cli.dispatch(["export", str(bundle), *given])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_models_that_speak_together_cannot_be_exported(bundle, tmp_path):
    serve_model(bundle, tmp_path / "joint", captioner("attention").search, {}, [bundle])
    with pytest.raises(UserError, match="2 models of an ensemble cannot be exported: export one of them"):
        cli.dispatch(["export", str(tmp_path / "joint"), str(tmp_path / "out.onnx")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n-best", "2"], "--n-best: an exported graph gives the one best caption alone"),
        (["--min-confidence", "0.5"], "--min-confidence: an exported graph gives"),
        (["--attention", "a.png"], "--attention: an exported graph gives"),
        (["--min-length", "5"], r"min_length is fixed in .*model.onnx; set it when you export the model"),
        (["--beam", "0"], "beam = 0: must be 1 to 100"),
        (["--runtime", "torch"], "--runtime torch takes the folder of a model"),
    ],
)
def test_what_a_graph_cannot_do_is_told(graph, photo, flags, message):
    with pytest.raises(UserError, match=message):
        cli.dispatch(["caption", str(photo), "--model", str(graph), *flags])


def test_other_files_are_no_graphs(bundle, photo, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    for name, message in (
        ("text.onnx", "is not a graph that onnxruntime"), ("none.onnx", "does not exist; write it with `showtell")
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            cli.dispatch(["caption", str(photo), "--model", str(tmp_path / name)])
    with pytest.raises(UserError, match=r"--runtime onnx takes --model MODEL.onnx; write it with `showtell export"):
        cli.dispatch(["caption", str(photo), "--model", str(bundle), "--runtime", "onnx"])


def test_the_ranges_are_those_of_the_search():
    for name, (least, most) in SETTINGS.items():
        for value, fits in ((least, True), (most, True), (least - 1, False), (most + 1, False)):
            whole = {**PLAIN.model_dump(), name: value}
            try:
                SearchParams.model_validate(whole)
                assert fits, (name, value)
            except ValueError:
                assert not fits, (name, value)
