"""The commands of docs/sharing.md between two clones with a folder as the remote; the artifact in dvc.yaml."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PAGE = (ROOT / "docs/sharing.md").read_text()


def test_the_artifact_is_the_bundle_that_evaluate_writes():
    artifact = DVC["artifacts"]["captioner"]
    assert artifact["path"] in DVC["stages"]["evaluate"]["outs"]
    assert artifact["type"] == "model" and artifact["desc"] and artifact["labels"] and artifact["meta"]


def commands(section: str) -> list[str]:
    """The lines to type of a section of the page, in order."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[1]
    return re.findall(r"^    (\S.*)$", text, re.M)


def run(folder: Path, command: str) -> None:
    names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    place = {"/path/both/can/reach": str(folder.parent / "storage"),
             "https://example.com/you/showtell.git": str(folder.parent / "origin.git")}  # fmt: skip
    for told, meant in place.items():
        command = command.replace(told, meant)
    done = subprocess.run(command, cwd=folder, shell=True, env=os.environ | names, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.slow
def test_the_commands_of_the_page_between_two_clones(pipeline, tmp_path):
    mine = tmp_path / "mine"
    run(tmp_path, f"git init -q --bare -b main {tmp_path / 'origin.git'} && git clone -q origin.git mine")
    shutil.copytree(pipeline / "data/model", mine / "data/model")
    shutil.copytree(pipeline / "metrics", mine / "metrics", ignore=shutil.ignore_patterns("report"))
    shutil.copy(pipeline / "params.yaml", mine)
    stage = {"cmd": "false", "outs": ["data/model"], "metrics": [{"metrics/evaluate.json": {"cache": False}}]}
    content = {"stages": {"evaluate": stage}, "artifacts": DVC["artifacts"]}
    (mine / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    run(mine, "git checkout -q -b main && dvc init -q && dvc commit -q -f && git add -A && git commit -qm first")
    remote = commands("Setting up a remote")
    for command in remote[: remote.index("git push")]:
        run(mine, command)
    run(mine, "git push -q -u origin main")

    run(tmp_path, "git clone -q origin.git theirs")
    theirs = tmp_path / "theirs"
    run(theirs, remote[remote.index("git push") + 1])
    whole = {path.name: path.read_bytes() for path in (pipeline / "data/model").iterdir()}
    assert {path.name: path.read_bytes() for path in (theirs / "data/model").iterdir()} == whole

    (python,) = re.findall(r"```python\n(.+?)```", PAGE, re.S)
    numbers = "; ".join(re.sub(r"^(dvc\.api\..+)$", r"print(\1)", line) for line in python.split("\n") if line)
    run(theirs, f"python -c '{numbers}'")
    for command in (*commands("The model alone")[:1], *commands("A version with a name")):
        run(theirs, command)
        for out in re.findall(r"--out (\S+)", command):
            assert {path.name: path.read_bytes() for path in (theirs / out).iterdir()} == whole

    run(theirs, commands("On the Hugging Face Hub")[0])
    assert not [path for path in (theirs / "card").iterdir() if path.is_symlink() or not os.access(path, os.W_OK)]
