"""The protocol from raw captions, its files and its commands."""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from showtell.commands import compare, score, tokenize
from showtell.core.errors import UserError
from showtell.metrics import meteor
from showtell.metrics.protocol import evaluate, read_hypotheses, read_references, score_files

REFERENCES = {1: ["A dog's running.", "A dog runs"], 2: ["Two cats sleep.", "Cats, asleep"], 3: ["A red car", "A car."]}
HYPOTHESES = {1: "A dog's running", 2: "Two dogs sleep", 3: "A red car."}


def annotations(references: dict) -> dict:
    return {
        "images": [{"id": image_id} for image_id in references],
        "annotations": [
            {"id": 10 * number + i, "image_id": image_id, "caption": caption}
            for number, (image_id, captions) in enumerate(references.items())
            for i, caption in enumerate(captions)
        ],
    }


def results(hypotheses: dict) -> list:
    return [{"image_id": image_id, "caption": caption} for image_id, caption in hypotheses.items()]


def save(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def run(module, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return save(tmp_path / "h.json", results(HYPOTHESES)), save(tmp_path / "r.json", annotations(REFERENCES))


def test_scores_are_fractions_for_the_corpus_and_each_image() -> None:
    scores = evaluate(REFERENCES, HYPOTHESES, meteor=False)
    assert list(scores.corpus) == ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "meteor"]
    assert scores.corpus["meteor"] is None and "not computed" in scores.notes["meteor"]
    assert scores.image_ids == [1, 2, 3]
    assert scores.images["rouge_l"][[0, 2]] == pytest.approx([1, 1])  # "dog 's" on both sides, periods dropped
    assert scores.corpus["bleu1"] == pytest.approx(9 / 10)
    for key, per_image in scores.images.items():
        assert per_image.shape == (3,)
        assert 0 <= scores.corpus[key] <= (10 if key == "cider" else 1)


def test_a_corpus_of_one_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"corpus of 1 image.*log\(1/1\) = 0"):
        evaluate({1: ["a dog"]}, {1: "a dog"})


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ({1: "a", 2: "b"}, "no hypothesis for image 3"),
        ({1: "a"}, "no hypothesis for images 2, 3"),
        ({**HYPOTHESES, 9: "x"}, "without references: image 9"),
        ({"01": "a", "02": "b", "03": "c"}, "image ids differ: the references have '1', the hypotheses '01'"),
    ],
)
def test_missing_and_extra_images_are_named(hypotheses: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(REFERENCES, hypotheses)


def test_an_image_without_references_is_named() -> None:
    with pytest.raises(UserError, match="no reference caption for image 2"):
        evaluate({1: ["a"], 2: []}, {1: "a", 2: "b"})


def test_files_score_like_their_content_whatever_the_type_of_ids(files: tuple[Path, Path], tmp_path: Path) -> None:
    expected = evaluate(REFERENCES, HYPOTHESES, meteor=False).corpus
    assert score_files(*files, meteor=False).corpus == expected
    text = save(tmp_path / "text.json", results({str(image_id): caption for image_id, caption in HYPOTHESES.items()}))
    assert score_files(text, files[1], meteor=False).corpus == expected


def test_the_order_of_hypotheses_does_not_matter(files: tuple[Path, Path], tmp_path: Path) -> None:
    turned = save(tmp_path / "turned.json", results(dict(reversed(HYPOTHESES.items()))))
    assert score_files(turned, files[1], meteor=False).corpus == score_files(*files, meteor=False).corpus


def test_a_subset_is_scored_only_on_request(files: tuple[Path, Path], tmp_path: Path) -> None:
    part = save(tmp_path / "part.json", results({1: "a dog", 2: "a cat"}))
    with pytest.raises(UserError, match="no hypothesis for image 3"):
        score_files(part, files[1])
    assert score_files(part, files[1], meteor=False, subset=True).image_ids == ["1", "2"]
    other = save(tmp_path / "other.json", results({"cat.jpg": "a cat"}))
    with pytest.raises(UserError, match=r"the references have '1', the hypotheses 'cat\.jpg'"):
        score_files(other, files[1], subset=True)


def test_the_pipelines_own_caption_files_are_references_too(tmp_path: Path) -> None:
    path = save(tmp_path / "test.json", [{"image_id": 7, "references": ["a dog"], "words": [["a", "dog"]]}])
    assert read_references(path) == {"7": ["a dog"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not a COCO results file"),
        ([{"image_id": 1}], "entry 1 lacks caption"),
        ([{"caption": "a"}], "entry 1 lacks image_id"),
        ([{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": None}], "entry 2 .*must be text, not null"),
        ([{"image_id": None, "caption": "a"}], "image_id must be a number or text, not None"),
        ([{"image_id": True, "caption": "a"}], "image_id must be a number or text, not True"),
        ([{"image_id": float("nan"), "caption": "a"}], "image_id must be a number or text, not nan"),
        ([{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}], "more than one caption for image 1"),
    ],
)
def test_broken_results_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_hypotheses(save(tmp_path / "h.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a COCO captions file"),
        ({"images": [{"id": 1}, {"id": "1"}], "annotations": []}, "lists image 1 twice"),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]}, "image 2 is not among"),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 1}]}, "entry 1 lacks caption"),
        ({"images": [{}], "annotations": []}, "images: entry 1 lacks id"),
        ([{"image_id": 1, "references": ["a", 2]}], "references must be a list of texts"),
        ([{"image_id": 1, "references": ["a"]}, {"image_id": "1", "references": ["b"]}], "lists image 1 twice"),
    ],
)
def test_broken_captions_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_references(save(tmp_path / "r.json", content))


def test_meteor_without_java_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = evaluate(REFERENCES, HYPOTHESES)
    assert scores.corpus["meteor"] is None
    assert scores.notes["meteor"] == "not computed: needs Java"
    assert scores.corpus["cider"] > 0


@pytest.mark.slow
@pytest.mark.skipif(meteor.missing() is not None, reason="METEOR needs Java and pycocoevalcap")
def test_meteor_scores_a_perfect_caption_best_and_resamples_like_the_jar() -> None:
    references = iter([["a dog runs"], ["a cat"], ["a dog running on grass", "the lawn"], ["a"]])
    outcome = meteor.meteor(references, iter(["a dog runs", "two birds", "a dog runs on the grass", ""]))
    assert not isinstance(outcome, str)
    assert outcome.images[[0, 1, 3]] == pytest.approx([1, 0, 0])
    # our formula, which intervals need, agrees with the jar on images and corpus
    assert meteor.from_statistics(outcome.statistics) == pytest.approx(outcome.images, abs=1e-12)
    assert meteor.from_statistics(outcome.statistics.sum(axis=0)) == pytest.approx(outcome.corpus, abs=1e-12)


def test_meteor_formula_on_a_worked_example() -> None:
    # "a dog runs on the grass" against "a dog running on grass": the jar's statistics and score
    line = "6 5 3 2 2 2 2 2 1 1 0 0 0 0 0 0 0 0 0 0 2 5 5"
    statistics = np.array(line.split(), float)
    assert meteor.from_statistics(statistics) == pytest.approx(0.4398732861414338, abs=1e-12)
    assert meteor.from_statistics(np.zeros(23)) == 0


def test_score_prints_fractions_as_json_and_a_table_times_100(files, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(score, *files, "--json", "--no-meteor") == 0
    content = json.loads(capsys.readouterr().out)
    assert content == {**evaluate(REFERENCES, HYPOTHESES, meteor=False).corpus, "tokenisation": "ptb"}
    assert run(score, *files, "--no-meteor", "--intervals") == 0
    table = capsys.readouterr().out
    for part in ("scored on PTB tokens", "x100", "BLEU-1     90.00", " to ", "METEOR   not computed"):
        assert part in table


def test_tokenize_gives_a_line_for_each_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "A dog's life.\n\nplan\u2028B, it can't\n".encode()
    monkeypatch.setattr(sys, "stdin", argparse.Namespace(buffer=io.BytesIO(text)))
    assert run(tokenize) == 0
    assert capsys.readouterr().out == "a dog 's life\n\nplan b it ca n't\n"


def test_ids_that_are_whole_numbers_are_equal_however_they_are_written(files, tmp_path: Path) -> None:
    floats = [{**entry, "image_id": float(entry["image_id"])} for entry in json.loads(Path(files[0]).read_text())]
    assert read_hypotheses(save(tmp_path / "floats.json", floats)).keys() == read_hypotheses(files[0]).keys()


def test_compare_names_the_images_that_gained_and_lost(files, tmp_path: Path, capsys) -> None:
    other = save(tmp_path / "b.json", results({1: "nothing \x1b[2J", 2: "Two cats sleep", 3: "A red car"}))
    assert run(compare, files[0], other, "--references", files[1], "--json", "--replicates", "50") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["gained"][0][0] == "2" and content["lost"][0][0] == "1"
    cider = content["metrics"]["cider"]
    assert cider["low"] <= cider["difference"] <= cider["high"] and 0 < cider["p"] <= 1
    assert run(compare, files[0], other, "--references", files[1]) == 0
    out = capsys.readouterr().out
    assert "Images that gained most" in out and "  B: nothing \ufffd[2J\n" in out and "are the same" not in out
    assert run(compare, files[0], files[0], "--references", files[1]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nthe captions are the same\n") and "most" not in out


def test_compare_names_the_captions_that_are_incomplete(files, tmp_path: Path) -> None:
    part = save(tmp_path / "part.json", results({1: "a dog"}))
    for pair in ((part, files[0]), (files[0], part)):
        with pytest.raises(UserError, match=r"part\.json: no hypothesis for image"):
            run(compare, *pair, "--references", files[1])


def test_compare_reads_the_captions_of_revisions(files, tmp_path: Path, monkeypatch, capsys) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / ".dvc").mkdir()  # what `dvc init` does, in seconds
    (tmp_path / ".dvc" / "config").write_text("")
    captions = tmp_path / "data" / "hypotheses" / "test.json"
    captions.parent.mkdir(parents=True)
    for number, hypotheses in enumerate(({**HYPOTHESES, 1: "nothing"}, HYPOTHESES)):
        save(captions, results(hypotheses))
        git("add", ".")
        git("commit", "-q", "-m", f"run {number}")
    monkeypatch.chdir(tmp_path)
    assert run(compare, "HEAD~1", "HEAD", "--references", files[1], "--json", "--replicates", "20") == 0
    assert [row[0] for row in json.loads(capsys.readouterr().out)["gained"]] == ["1"]


def test_compare_says_when_a_revision_s_captions_are_not_in_the_cache(files, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("")
    captions = "data/hypotheses/test.json"
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"evaluate": {"cmd": "x", "outs": [captions]}}}))
    out = {"path": captions, "hash": "md5", "md5": "0" * 32, "size": 3}
    locked = {"schema": "2.0", "stages": {"evaluate": {"cmd": "x", "outs": [out]}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(locked))
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "run")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"HEAD has data/hypotheses/test\.json, but its content is not in this cache"):
        run(compare, files[0], "HEAD", "--references", files[1])


def test_compare_refuses_what_is_neither_file_nor_revision(files, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="neither a file nor a revision"):
        run(compare, files[0], "no-such-thing", "--references", files[1])


def test_importing_the_metrics_loads_no_deep_learning_library() -> None:
    modules = "behaviour, bootstrap, objects, protocol, statements"
    code = (
        f"import sys\nfrom showtell.metrics import {modules}\n"
        "print(*(name for name in ('torch', 'nltk', 'pandas') if name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"
