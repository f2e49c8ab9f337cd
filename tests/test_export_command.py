"""`showtell export`, and `showtell caption` with an exported graph, without PyTorch."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from export_models import captioner, kept_conversions, picture  # noqa: F401
from PIL import Image

from showtell.commands import cli
from showtell.core.errors import UserError
from showtell.generation.bundle import load_bundle, save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.graphs.graph_writer import exportable
from showtell.generation.neighbours import Neighbours
from showtell.generation.onnx_captioner import SETTINGS, OnnxCaptioner
from showtell.generation.search_params import PLAIN, SearchParams

for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package, reason="the extra `onnx` is not installed")


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
    said = json.loads(done.stdout)
    assert said["words"] and said["probabilities"] is None and said["confidence"] is None
    assert said["caption"] == Captioner.load(bundle).caption([photo])[0].text


def test_the_example_of_the_documentation(graph, bundle, photo, tmp_path):
    text = (ROOT / "docs/export.md").read_text()
    example = re.search(r"\n((?:    .*\n|\n)*    import onnxruntime\n(?:    .*\n|\n)*)", text)[1]
    lines = [line[4:] for line in example.splitlines() if line.strip()]
    assert len(lines) <= 20
    (tmp_path / "example.py").write_text("\n".join(lines))
    lying, exif = tmp_path / "lying.png", Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.open(photo).save(lying, exif=exif)
    transparent = Image.open(photo).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save(tmp_path / "transparent.png")
    for shown in (photo, lying, tmp_path / "transparent.png"):
        done = run_without_torch(str(tmp_path / "example.py"), str(graph), str(shown))
        assert (done.stderr, done.stdout.strip()) == ("", Captioner.load(bundle).caption([shown])[0].text)


@pytest.mark.parametrize("rules", [[], ["--block-ngrams", "2", "--min-length", "4"]])
def test_the_search_of_the_documentation(bundle, tmp_path, rules):
    own = Captioner.load(bundle)
    photo, size = tmp_path / "photo.png", own.model.transform.size  # of the network's size: no resize that rounds
    Image.fromarray(picture(size, size, seed=5)).save(photo)
    text = (ROOT / "docs/export.md").read_text()
    example = re.search(r"\n((?:    .*\n|\n)*    encoder, step = (?:.*\n)(?:    .*\n|\n)*)", text)[1]
    (tmp_path / "search.py").write_text("\n".join(line[4:] for line in example.splitlines()))
    assert cli.dispatch(["export", str(bundle), str(tmp_path / "parts"), "--parts", *rules]) == 0
    done = run_without_torch(str(tmp_path / "search.py"), str(tmp_path / "parts"), str(photo))
    settings = {"block_ngrams": 2, "min_length": 4} if rules else {}
    expected = own.caption([photo], beam=1, **settings)[0].text
    assert done.returncode == 0 and done.stdout.strip() == expected


@pytest.mark.parametrize("flags", [["--consensus", "1"], ["--method", "sample"], ["--precision", "bf16"]])
def test_what_no_graph_can_do_is_not_advised(graph, photo, flags):
    with pytest.raises(UserError, match=r"an exported graph cannot do that; use the model's folder"):
        cli.dispatch(["caption", str(photo), "--model", str(graph), *flags])


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
        ([".", "--parts"], r"\.: name a folder that does not exist yet"),
        (["link", "--format", "torch"], "link exists already"),
        (["full.onnx"], "full.onnx is a folder"),
        (["OUT", "--beam", "0"], "beam = 0"),
        (["OUT", "--precision", "bf16"], "precision = bf16: exported graphs compute in fp32"),
    ],
)
def test_unsupported_exports_are_refused(bundle, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "full.onnx").mkdir()
    (tmp_path / "link").symlink_to("full.onnx")
    given = ["out.onnx" if argument == "OUT" else argument for argument in arguments]
    with pytest.raises(UserError, match=message):
        cli.dispatch(["export", str(bundle), *given])
    assert {path.name for path in tmp_path.iterdir()} == {"full", "full.onnx", "link"}


def test_a_weight_for_words_that_nothing_detects_is_refused(bundle):
    own = load_bundle(bundle)
    assert exportable(own, detection_weight=0.5).detection_weight == 0.5
    without = own._replace(model=replace(own.model, detector=None))
    with pytest.raises(UserError, match=r"detection_weight = 0\.5: no detector of words was trained with this model"):
        exportable(without, detection_weight=0.5)


def test_ensembles_cannot_be_exported(bundle, tmp_path):
    serve_model(bundle, tmp_path / "joint", captioner("attention").search, {}, [bundle])
    with pytest.raises(UserError, match="2 models of an ensemble cannot be exported: export one of them"):
        cli.dispatch(["export", str(tmp_path / "joint"), str(tmp_path / "out.onnx")])


def test_a_graph_holds_no_training_images_and_says_so(bundle, photo, tmp_path, capfd):
    model = captioner("attention").model
    features = np.random.default_rng(0).standard_normal((3, model.encoder.channels), np.float32)
    memory = Neighbours.of(features, np.array([1, 1, 1]), np.array([2, 1, 2]), np.array([4, 2, 2, 5, 2]))
    search, folder = captioner("attention").search.override(consensus=100.0), tmp_path / "model"
    serve_model(bundle, folder, search, {}, neighbours=memory)
    with pytest.raises(UserError, match="consensus: exported graphs hold no training images"):
        cli.dispatch(["export", str(folder), str(tmp_path / "out.onnx"), "--consensus", "2"])
    assert cli.dispatch(["export", str(folder), str(tmp_path / "out.onnx")]) == 0
    assert "its captions are those of `showtell caption --consensus 0`" in capfd.readouterr().err
    (expected,) = Captioner.load(folder).caption([photo], consensus=0.0)
    assert OnnxCaptioner(tmp_path / "out.onnx").caption(photo).words == expected.words
    assert cli.dispatch(["export", str(folder), str(tmp_path / "asked.onnx"), "--consensus", "0"]) == 0
    assert "training images" not in capfd.readouterr().err


def test_a_graph_leaves_out_the_words_of_similar_training_images(bundle, capfd):
    without = replace(captioner("attention").model, detector=None)
    features, ones = np.eye(3, without.encoder.channels, dtype=np.float32), np.array([1, 1, 1])
    memory = Neighbours.of(features, ones, ones, np.array([4, 4, 2]))
    stored = load_bundle(bundle)._replace(model=without, neighbours=memory)
    of_images = stored._replace(search=stored.search.override(detection_weight=0.5))
    assert exportable(of_images).detection_weight == 0.0
    assert "its captions are those of `showtell caption --detection-weight 0`" in capfd.readouterr().err
    both = stored._replace(search=of_images.search.override(consensus=1.0))
    assert exportable(both).consensus == 0.0
    assert "`showtell caption --consensus 0 --detection-weight 0`" in capfd.readouterr().err
    assert exportable(of_images, detection_weight=0.0).detection_weight == 0.0
    assert "training images" not in capfd.readouterr().err
    detected = of_images._replace(model=captioner("attention").model)
    assert exportable(detected).detection_weight == 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n-best", "2"], "--n-best: an exported graph gives the one best caption alone"),
        (["--min-confidence", "0.5"], "--min-confidence: an exported graph has no calibration of confidence; use the"),
        (["--attention", "a.png"], "--attention: an exported graph gives"),
        (["--min-length", "5"], r"min_length is fixed in .*model.onnx; set it when you export the model"),
        (["--beam", "0"], "beam = 0: must be 1 to 100"),
        (["--runtime", "torch"], "--runtime torch takes the folder of a model"),
    ],
)
def test_unsupported_options_of_a_graph_are_refused(graph, photo, flags, message):
    with pytest.raises(UserError, match=message):
        cli.dispatch(["caption", str(photo), "--model", str(graph), *flags])


def test_other_files_than_graphs_are_refused(bundle, photo, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    for name, message in (
        ("text.onnx", "is not a graph that onnxruntime"), ("none.onnx", "does not exist; write it with `showtell")
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            cli.dispatch(["caption", str(photo), "--model", str(tmp_path / name)])
    assert cli.dispatch(["export", str(bundle), str(tmp_path / "parts"), "--parts"]) == 0
    for part in ("encoder", "step"):
        with pytest.raises(UserError, match=rf"{part}\.onnx is not a complete model of `showtell export"):
            cli.dispatch(["caption", str(photo), "--model", str(tmp_path / f"parts/{part}.onnx")])
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
