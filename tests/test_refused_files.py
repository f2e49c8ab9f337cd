"""`score`, `compare` and `import`: files and options that are refused with what is expected instead."""

import json

import pytest

from showtell.commands import cli

REFERENCES = {
    "images": [{"id": n} for n in range(3)],
    "annotations": [{"image_id": n, "caption": text} for n, text in enumerate(("a dog", "a red cat", "two birds"))],
}
RESULTS = [{"image_id": n, "caption": "a dog"} for n in range(3)]
LINES = '{"file_name": "a.jpg", "text": "a \\"dog\\", running"}\n{"file_name": "b.jpg", "text": "a cat"}\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    for name, content in (("refs.json", REFERENCES), ("caps.json", RESULTS), ("few.json", RESULTS[:2])):
        (tmp_path / name).write_text(json.dumps(content))
    for name in ("lines.jsonl", "lines.json", "lines.txt"):
        (tmp_path / name).write_text(LINES)
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "single.json").write_text('[{"image_id": 1, "caption": "a dog"}]')
    (tmp_path / "one.jsonl").write_text(LINES.partition("\n")[0])
    return tmp_path


def refusal(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    said = capsys.readouterr()
    assert end.value.code == 1 and said.err.count("\n") == 1 and said.out == ""
    return said.err


@pytest.mark.parametrize(("arguments", "message"), [
    (["caps.json", "pics"], "pics is a folder; expected is a file: a COCO captions file, one JSON object with"),
    (["pics", "refs.json"], "pics is a folder; expected is a file: a COCO results file, one JSON list"),
    (["lines.jsonl", "refs.json"], "lines.jsonl holds JSON lines, which are not read; expected is a COCO results file"),
    (["one.jsonl", "refs.json"], "one.jsonl holds JSON lines, which are not read"),
    (["caps.json", "lines.json"], "lines.json holds JSON lines, which are not read; expected is a COCO captions file"),
    (["few.json", "refs.json"], "few.json has no hypothesis for 1 of the 3 images of refs.json, the first is 2; "
                                "--subset scores the other 2 alone"),
    (["none.json", "refs.json"], "none.json holds no captions"),
    (["none.json", "refs.json", "--subset"], "none.json holds no captions"),
    (["single.json", "refs.json"], "no hypothesis for images"),
    (["caps.json", "refs.json", "--clip-model", "X"], "--clip-model X: it says how --pictures are scored"),
    (["caps.json", "refs.json", "--clip-weights", "Y"], "--clip-weights Y: it says how --pictures are scored"),
])  # fmt: skip
def test_score(place, capsys, arguments, message):
    assert f"error: {message}" in refusal(capsys, "score", *arguments, "--no-meteor")


def test_the_suggested_subset_is_scored(place, capsys):
    assert cli.dispatch(["score", "few.json", "refs.json", "--no-meteor", "--subset"]) == 0


def test_compare(place, capsys):
    for files in (("lines.jsonl", "caps.json"), ("caps.json", "lines.jsonl")):
        assert "lines.jsonl holds JSON lines" in refusal(capsys, "compare", *files, "--references", "refs.json")


@pytest.mark.parametrize("name", ["lines.jsonl", "lines.json", "lines.txt", "one.jsonl"])
def test_import(place, capsys, name):
    said = refusal(capsys, "import", "pics", name)
    assert f"error: {name} holds JSON lines, which are not read; expected is Karpathy's JSON, " in said
    assert "pics is a folder; expected is a file: Karpathy's" in refusal(capsys, "import", "pics", "pics")
