"""CLIPScore equals the paper's formula, tested with a tiny CLIP of random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import inside, run_stage, write_params
from PIL import Image

from showtell.commands import cli
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.metrics import clip_score
from showtell.metrics.clip_score import clip_scores, kinship, load_clip, score_with

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of `tiny-clip`, a model that open_clip knows from now on."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed (extra: clipscore)")
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(1)
    torch.save(open_clip.create_model("tiny-clip").state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (40 + 5 * n, 50, 3), np.uint8)) for n in range(count)]


CAPTIONS = ["a dog runs", "two boats on the sea", "a very " + "long " * 100 + "caption"]
REFERENCES = [["a dog", "the dog runs on grass"], ["boats"], ["a caption", "words", "a dog"]]


def test_the_formula_by_hand():
    v = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    c = np.array([[0.6, 0.8], [-1.0, 0.0], [0.6, 0.8]])
    r = [np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[-0.6, -0.8]])]
    found = clip_scores(v, c, r)
    assert found["clipscore"] == pytest.approx([1.5, 0, 1.5])  # 2.5 x 0.6; a negative cosine is 0
    assert found["refclipscore"] == pytest.approx([2 * 1.5 * 0.8 / 2.3, 0, 0])


def test_features_are_those_of_the_model_behind_the_prefix_and_batches_change_nothing(weights, monkeypatch):
    import open_clip

    clip = load_clip("tiny-clip", str(weights))
    images = pictures(3)
    whole = score_with(clip, images, CAPTIONS, REFERENCES)
    monkeypatch.setattr(clip_score, "INPUTS_PER_PASS", 1)
    one_by_one = score_with(clip, images, CAPTIONS, REFERENCES)
    for key, metric in whole.items():
        assert metric.score == pytest.approx(one_by_one[key].score, abs=1e-6)

    network = open_clip.create_model("tiny-clip", pretrained=str(weights)).eval()
    tokenize, unit = open_clip.get_tokenizer("tiny-clip"), torch.nn.functional.normalize
    with torch.no_grad():
        v = unit(network.encode_image(torch.stack([clip.prepare(image) for image in images])))
        c = unit(network.encode_text(tokenize(["A photo depicts " + caption for caption in CAPTIONS])))
        r = [unit(network.encode_text(tokenize(["A photo depicts " + text for text in texts]))) for texts in REFERENCES]
    s = [2.5 * max(float(a @ b), 0.0) for a, b in zip(v, c, strict=True)]
    t = [max(float((texts @ b).max()), 0.0) for texts, b in zip(r, c, strict=True)]
    both = [2 * a * b / (a + b) if a + b else 0.0 for a, b in zip(s, t, strict=True)]
    assert whole["clipscore"].score == pytest.approx(np.mean(s), abs=1e-5)
    assert whole["refclipscore"].score == pytest.approx(np.mean(both), abs=1e-5)


@pytest.mark.parametrize(
    ("model", "file", "says"),
    [("tiny-clop", "x.pt", "'tiny-clop' is not a model of open_clip"), ("tiny-clip", "x.pt", "no such file"),
     ("tiny-clip", "laion", "tiny-clip has none; or a file"), ("ViT-B-32", "tiny.pt", "does not hold the weights")],
)  # fmt: skip
def test_what_is_wrong_is_one_line(weights, model, file, says):
    path = weights.parent / file
    with pytest.raises(UserError, match=says) as error:
        load_clip(model, str(path) if file == "tiny.pt" else file)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_downloaded_are_named(weights, monkeypatch):
    import open_clip

    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    told = r"cannot get the weights openai of ViT-B-32 \(no route to host\); bring .+ path, with ViT-B-32-quickgelu as"
    with pytest.raises(UserError, match=told):
        load_clip("ViT-B-32", "openai")
    with pytest.raises(UserError, match=r"bring .+ and give its path$"):
        load_clip("ViT-B-32", "laion2b_s34b_b79k")


def test_a_hub_out_of_reach_is_one_line_without_retries(tmp_path, monkeypatch, caplog):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # refused at once
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot get the weights laion2b_s34b_b79k of ViT-B-32 \("):
        load_clip("ViT-B-32", "laion2b_s34b_b79k")
    assert not caplog.records
    assert not constants.HF_HUB_OFFLINE


def test_weights_are_computed_with_the_activation_that_they_learnt_with(weights, monkeypatch):
    import open_clip

    built = {}

    def note(model, pretrained, force_quick_gelu, **_):
        built[model, pretrained] = force_quick_gelu
        raise ValueError("enough")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", note)
    monkeypatch.setattr(clip_score, "_downloaded", lambda _, model, name: name)
    for model, name, quick in (
        ("ViT-B-32", "openai", True), ("ViT-B-16", "dfn2b", True), ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B-32-quickgelu", "openai", False), ("tiny-clip", str(weights), False),  # as the model says
    ):  # fmt: skip
        with pytest.raises(UserError, match="enough"):
            load_clip(model, name)
        assert built[model, name] == quick


def test_clip_encoders_are_noted_beside_clipscore():
    assert "is the same network" in kinship("timm/vit_base_patch16_clip_224.openai", "ViT-B-16")
    assert "is a CLIP too" in kinship("timm/vit_base_patch16_clip_224.openai", "ViT-B-32")
    assert kinship("timm/convnext_base", "ViT-B-32") == kinship("resnet18", "ViT-B-32") == ""


def status_of(command: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(command)
    return end.value.code


def test_score_has_both_as_rows_with_the_model_beside_them(weights, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(pictures(3)):
        image.save(tmp_path / "photos" / f"{number}.png")
    references = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
        "annotations": [{"image_id": n, "caption": text} for n in range(3) for text in REFERENCES[n]],
    }
    results = [{"image_id": n, "caption": CAPTIONS[n]} for n in range(3)]
    for name, content in (("refs.json", references), ("caps.json", results)):
        (tmp_path / name).write_text(json.dumps(content))
    command = ["score", "caps.json", "refs.json", "--no-meteor", "--pictures", "photos", "--clip-model", "tiny-clip",
               "--clip-weights", str(weights)]  # fmt: skip
    with inside(tmp_path):
        assert status_of(command) == 0
        table = capsys.readouterr().out
        assert status_of([*command, "--json", "--intervals"]) == 0
        found = json.loads(capsys.readouterr().out)
        shutil.make_archive("archived/photos", "zip", "photos")  # as data/raw/images holds them
        assert status_of([*command, "--pictures", "archived"]) == 0 and capsys.readouterr().out == table
        assert status_of([*command, "--pictures", "nowhere", "--json"]) == 1
        said = capsys.readouterr()
        assert said.out == "" and "--pictures nowhere does not exist" in said.err  # before other scores are computed
        (tmp_path / "photos/1.png").unlink()
        assert status_of(command) == 1
        said = capsys.readouterr()
        assert "lacks 1 of the pictures, the first is 1.png" in said.err
        others = [line.split() for line in table.splitlines() if "CLIPScore" not in line]
        assert [line.split() for line in said.out.splitlines()] == others
        assert status_of([*command, "--json"]) == 1 and json.loads(capsys.readouterr().out)["clip"] is None
    assert f"CLIPScore    {100 * found['clipscore']:7.2f}   by tiny-clip, tiny.pt" in table
    low, high = found["intervals"]["refclipscore"]
    assert low <= found["refclipscore"] <= high and found["clip"] == "by tiny-clip, tiny.pt"


def test_evaluate_scores_test_where_params_ask_for_it(weights, copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    write_params(folder, evaluate={"pictures": 1, "clip_model": "tiny-clip", "clip_weights": str(weights)})
    run_stage("evaluate", folder)
    metrics, bounds = read_json(folder / "metrics/evaluate.json"), read_json(folder / "metrics/intervals.json")
    assert metrics["clip"] == "by tiny-clip, tiny.pt"
    assert bounds["clipscore_low"] <= metrics["clipscore"] <= bounds["clipscore_high"]
    assert "by tiny-clip, tiny.pt" in (folder / "data/model/README.md").read_text()
    assert "by tiny-clip, tiny.pt" in (folder / "metrics/report/index.html").read_text()
