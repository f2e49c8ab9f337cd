"""benchmarks/systems.py: settings shared by all rows, and the table of results."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import systems_rows
import systems_runs
import systems_table
import word_vectors

from showtell.commands import recipe
from showtell.core.errors import UserError
from showtell.core.yaml_files import parsed
from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.learning.word_vectors import read_vectors

TEXT = (ROOT / "params.yaml").read_text()
PARAMS = parsed(TEXT, "params.yaml")
FROZEN = ("resnet152-lstm", "vgg16-onehot-lstm", "vgg16-no-sampling", "transformer")


def params_of(row: systems_rows.Row, quick: bool = False) -> dict:
    return recipe.overlaid(PARAMS, systems_rows.settings(row, ROOT / "recipes", quick))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("row", systems_rows.ROWS, ids=lambda row: row.name)
def test_rows_are_valid_and_can_be_written(row, quick):
    params = params_of(row, quick)
    recipe.check(params)
    written = recipe.written(TEXT, systems_rows.settings(row, ROOT / "recipes", quick))
    assert parsed(written, "params.yaml") == params


def test_pictures_words_and_decoding_are_the_same_for_all():
    rows = [params_of(row) for row in systems_rows.ROWS]
    for section in ("dataset", "scenes", "vocab", "resize", "beam", "search"):
        assert all(one[section] == other[section] for one, other in pairwise(rows)), section
    encoders = [{key: value for key, value in params["encoder"].items() if key != "output"} for params in rows]
    assert all(one == other for one, other in pairwise(encoders))


def test_epochs_are_bounded_and_none_are_added():
    for row in systems_rows.ROWS:
        epochs = tuple(params_of(row)[stage]["epochs"] for stage in ("train", "finetune"))
        most = tuple(systems_rows.PASSES.values())
        wanted = (0, 5) if row.scratch else (most[0], 0) if row.name in FROZEN else most
        assert epochs == wanted, row.name


def test_a_row_differs_from_its_system_in_its_changes_only():
    by_name = {row.name: dict(recipe.flat(params_of(row))) for row in systems_rows.ROWS}
    sampling = {"learning.sampling", "learning.sampling_start", "learning.sampling_schedule"}
    for one, other, keys in (
        ("vgg16-onehot-lstm", "vgg16-no-sampling", sampling),
        ("showtell", "showtell-vectors", {"decoder.embeddings"}),
    ):
        assert {k for k in by_name[one] if by_name[one][k] != by_name[other][k]} == keys


def made_up(name: str, **changes) -> dict:
    """A result as written by a run."""
    recipe_name = next(row.recipe for row in systems_rows.ROWS if row.name == name)
    stage = {"epochs": 5, "best": 4, "seconds": 12.4, "threads": 1, "jobs": 2}
    test = {f"bleu{order}": 0.9 / order for order in range(1, 5)} | {
        "cider": 1.0,
        "frozen_cider": 0.87,
        "chair_i": 0.141,
    }
    intervals = {"cider_low": 0.955, "cider_high": 1.052}
    return {"name": name, "recipe": recipe_name, "what": "", "commit": "0123456789abcdef", "encoder": "e",
            "decoder": 1_234_567, "learning": 2_345_678, "train": stage, "finetune": stage, "test": test,
            "intervals": intervals} | changes  # fmt: skip


def test_the_table():
    none = {"epochs": 0, "best": None, "seconds": None, "threads": None, "jobs": None}
    lines = systems_table.table(
        [
            made_up("showtell", what="with pretrained word vectors"),
            made_up("densenet121-lstm", train=none, encoder=None),
        ]
    ).splitlines()
    assert lines[2] == (
        "| `showtell`, with pretrained word vectors | 90.0 | 45.0 | 30.0 | 22.5 | 100.0 (95.5-105.2) | 87.0 | 14.1 | "
        "12 / 12 | 1.23 M / 2.35 M | 4 of 5 / 4 of 5 |"
    )
    assert "| 100.0 (95.5-105.2) | · | 14.1 | · / 12 |" in lines[3]
    assert lines[-1] == "Commit 012345678; 1 thread a run, 2 at a time. Frozen encoders: one and the same."
    other = systems_table.table([made_up("showtell"), made_up("resnet152-lstm", encoder="f")])
    assert "Frozen encoders: 2 different ones." in other


@pytest.mark.parametrize("name", systems_table.BEGIN)
def test_only_the_table_of_the_page_is_rewritten(name):
    page, begin = systems_table.PAGE.read_text(), systems_table.BEGIN[name]
    again = systems_table.rewritten(page, "| new |", name)
    before, _, rest = page.partition(begin)
    assert again.startswith(before + begin) and again.endswith(rest.partition(systems_table.END)[2])
    assert systems_table.rewritten(again, "| newer |", name) == again.replace("| new |", "| newer |")


def test_a_table_without_a_row_of_the_page_is_noticed():
    few = [made_up("showtell"), made_up("showtell", what="with pretrained word vectors")]
    page = systems_table.rewritten(systems_table.PAGE.read_text(), systems_table.table(few))
    more = systems_table.table([*few, made_up("transformer")])
    assert systems_table.lacking(page, more) == []
    assert systems_table.lacking(page, systems_table.table(few[:1])) == ["`showtell`, with pretrained word vectors"]


@pytest.mark.parametrize("row", systems_rows.ROWS, ids=lambda row: row.name)
def test_rows_on_photographs_share_pictures_words_encoder_and_decoding(row, tmp_path):
    captions = tmp_path / "captions.json"
    captions.write_text("{}")
    pictures = systems_rows.photographs(tmp_path, captions, "mobilenet_v2", "features.14")
    overlay = systems_rows.settings(row, ROOT / "recipes", pictures=pictures)
    params = recipe.overlaid(PARAMS, overlay)
    recipe.check(params)
    assert parsed(recipe.written(TEXT, overlay), "params.yaml") == params
    assert params["dataset"] == "custom" and params["custom"]["images"] == str(tmp_path)
    assert params["encoder"]["name"] == "mobilenet_v2" and params["resize"]["size"] == 224
    assert params["finetune"]["trainable_from"] == (None if row.scratch else "features.14")
    assert {key: params[key] for key in ("vocab", "beam", "search")} == {
        key: params_of(systems_rows.ROWS[0])[key] for key in ("vocab", "beam", "search")
    }
    with pytest.raises(UserError, match="does not exist"):
        systems_rows.photographs(tmp_path / "no", captions, "mobilenet_v2", "features.14")
    with pytest.raises(UserError, match="lacks the lines"):
        systems_table.rewritten("# No table\n", "| new |")


def test_photographs_have_no_row_with_word_vectors_of_scenes(tmp_path):
    pictures = systems_rows.photographs(tmp_path, tmp_path, "mobilenet_v2", "features.14")
    assert not any(row.vectors for row in systems_rows.chosen((), pictures))
    with pytest.raises(UserError, match="no row 'showtell-vectors'"):
        systems_rows.chosen(["showtell-vectors"], pictures)


def test_seconds_of_a_cached_stage_are_known(tmp_path):
    plan = systems_runs.Plan(tmp_path, "c", jobs=2, quick=False)
    for name, loss in (("first", 1), ("second", 1), ("third", 2)):
        (tmp_path / name / "metrics").mkdir(parents=True)
        (tmp_path / name / "metrics/train.tsv").write_text(f"epoch\tloss\n1\t{loss}\n")
    said = "epoch   1/2  loss 1.0  cider 0.1  12.5 s  best\nepoch   2/2  loss 1.0  cider 0.1  11.0 s\nother 3 s\n"
    found = [float(number) for number in systems_runs.EPOCH.findall(said)]
    assert found == [12.5, 11.0]
    systems_runs.keep_seconds(plan, tmp_path / "first", "train", found)
    systems_runs.keep_seconds(plan, tmp_path / "second", "train", [])
    noted = json.loads(systems_runs.seconds_file(plan, tmp_path / "second", "train").read_text())
    assert noted["seconds"] == found and noted["jobs"] == 2
    assert not systems_runs.seconds_file(plan, tmp_path / "third", "train").exists()


def test_a_row_that_fails_is_a_line(tmp_path, monkeypatch, capsys):
    def perform(row, plan):
        if row.name == "showtell":
            raise systems_runs.RunFailed("train: error: no such file (more in showtell.log)")

    monkeypatch.setattr(systems_runs, "perform", perform)
    plan = systems_runs.Plan(tmp_path, "c", jobs=1, quick=False)
    rows = systems_rows.chosen(["showtell", "resnet152-lstm"])
    assert [systems_runs.attempt(plan, row) for row in rows] == [False, True]
    assert capsys.readouterr().err == "showtell failed: train: error: no such file (more in showtell.log)\n"
    with pytest.raises(UserError, match="there is no row 'tell'; there are show-attend-tell, "):
        systems_rows.chosen(["tell"])


def test_word_vectors_of_synonyms_are_close(tmp_path):
    path = tmp_path / "vectors.txt"
    count = word_vectors.make_vectors(path, scenes=400, size=600)
    first = path.read_bytes()
    words = [line.split(" ")[0] for line in path.read_text().splitlines()]
    assert len(words) == count and words[0] == "a"
    vocabulary = Vocabulary(words, range(count, 0, -1))
    found = read_vectors(path, vocabulary, size=600)  # more dimensions than words: the rest is 0
    vectors = np.stack([found[len(SPECIALS) + row].numpy() for row in range(count)])
    assert np.isclose(np.sqrt(np.mean(vectors**2)), word_vectors.INITIAL_RANGE / 3**0.5, rtol=1e-3)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit[words.index("sofa")] @ unit.T
    assert likeness[words.index("couch")] > max(likeness[words.index(word)] for word in ("kite", "duck", "snow"))
    word_vectors.make_vectors(path, scenes=400, size=600)
    assert path.read_bytes() == first


def test_pointwise_mutual_information():
    counts = word_vectors.together([["a", "b", "x", "a"], ["c", "c"]], ["a", "b", "c"])
    assert counts.tolist() == [[2, 2, 0], [2, 0, 0], [0, 0, 2]]
    pmi = word_vectors.positive_pmi(counts)
    assert pmi[0, 1] == pytest.approx(np.log(2 * 8 / (4 * 2))) and pmi[1, 1] == 0
    assert pmi[2, 2] == pytest.approx(np.log(2 * 8 / (2 * 2)))


@pytest.mark.long
def test_a_quick_run(tmp_path):
    """Clone of what is committed, recipe, seven stages under DVC, result; the second time out of the cache."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository's history")
    command = [sys.executable, str(ROOT / "benchmarks/systems.py"), "--quick", "--folder", str(tmp_path)]
    page = systems_table.PAGE.read_bytes()
    for _ in range(2):
        done = subprocess.run([*command, "--only", "showtell-vectors"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "| `showtell`, with pretrained word vectors | " in done.stdout
    assert "is cached" in Path(tmp_path / "showtell-vectors.log").read_text()
    noted = json.loads((tmp_path / "showtell-vectors.json").read_text())
    assert noted["train"]["seconds"] > 0 and noted["finetune"]["seconds"] > 0
    assert noted["learning"] > noted["decoder"] > 0
    assert systems_table.PAGE.read_bytes() == page
