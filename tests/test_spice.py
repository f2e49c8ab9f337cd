"""SPICE by its jar if all files exist, else one line names the missing one. A script replaces Java."""

import json
import sys

import pytest
from conftest import inside

from showtell.commands import cli
from showtell.metrics import spice

JAVA = f"""#!{sys.executable}
import json, sys
words = sys.argv[sys.argv.index("-jar"):]
assert words[1] == "spice-1.0.jar" and "-subset" in words
rows = json.load(open(words[2]))
scores = [{{"image_id": row["image_id"], "scores": {{"All": {{"f": 0.5 if row["test"] in row["refs"] else None}}}}}} for row in rows]
json.dump(scores[::-1], open(words[words.index("-out") + 1], "w"))
"""  # noqa: E501


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as pycocoevalcap's, without CoreNLP; and a Java on the path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").write_text(JAVA)
    (tmp_path / "bin/java").chmod(0o755)
    (tmp_path / "spice/lib").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(spice, "_folder", lambda: tmp_path / "spice")
    return tmp_path


def complete(place) -> None:
    for name in spice.CORENLP:
        (place / "spice/lib" / name).touch()


REFERENCES = {"b": ["a dog", "dogs"], "a": ["a boat"]}


def test_what_is_missing_is_one_line(place, monkeypatch):
    (place / "spice/lib" / spice.CORENLP[0]).touch()
    said = spice.spice(REFERENCES, {"a": "a boat", "b": "a cat"})
    assert said.startswith("not computed: needs stanford-corenlp-3.6.0-models.jar (") and "\n" not in said
    assert str(place / "spice/lib") in said
    monkeypatch.setattr(spice, "_folder", lambda: None)
    assert spice.missing() == "not computed: needs the package pycocoevalcap"
    monkeypatch.setenv("PATH", "")
    assert spice.missing() == "not computed: needs Java"


def test_scores_come_in_the_order_of_the_references(place):
    complete(place)
    assert list(spice.spice(REFERENCES, {"a": "a boat", "b": "a cat"})) == [0.0, 0.5]


def test_a_java_that_fails_is_one_line(place):
    complete(place)
    (place / "bin/java").write_text("#!/bin/sh\nexit 1\n")
    assert spice.spice(REFERENCES, {"a": "a", "b": "a"}) == "not computed: SPICE's Java process failed"


def test_score_has_it_as_a_row(place, capsys):
    entries = [{"image_id": i, "caption": text} for i, texts in REFERENCES.items() for text in texts]
    references = {"images": [{"id": i} for i in REFERENCES], "annotations": entries}
    (place / "refs.json").write_text(json.dumps(references))
    (place / "caps.json").write_text(
        json.dumps([{"image_id": "a", "caption": "a boat"}, {"image_id": "b", "caption": "x"}])
    )
    said = []
    for make in (lambda: None, lambda: complete(place)):
        make()
        with inside(place), pytest.raises(SystemExit):
            cli.main(["score", "caps.json", "refs.json", "--no-meteor", "--spice"])
        said.append(capsys.readouterr().out)
    assert "\nSPICE    not computed: needs stanford-corenlp-3.6.0.jar and " in said[0]
    assert "\nSPICE      25.00\n" in said[1]
