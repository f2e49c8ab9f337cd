"""The package keeps the structure that docs/architecture.md describes: its rooms, their order, and distinct names."""

import ast
import re
from collections import Counter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src/showtell"
TABLE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("\n## ")[0]
ROOMS = re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)


def test_the_table_lists_every_room():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(ROOMS) == packages and len(ROOMS) == len(packages)
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 10


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_above_it(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for file in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("showtell."):
                assert node.module.split(".")[1] in allowed, f"{file.relative_to(PACKAGE)} imports {node.module}"


def forms(name: str) -> set[str]:
    """Plural and gerund of a word, `picture` -> `pictures`, `picturing`."""
    stem = name[:-1] if name.endswith("e") else name
    return {f"{name}s", f"{name}es", f"{name[:-1]}ies", f"{name}ing", f"{stem}ing", f"{name}{name[-1]}ing"}


def test_names_of_modules_and_packages_differ_in_more_than_their_ending():
    files = list(PACKAGE.rglob("*.py"))
    names = Counter(path.parent.name if path.name == "__init__.py" else path.stem for path in files)
    assert [name for name, count in names.items() if count > 1] == []
    assert {name: forms(name) & set(names) for name in names if forms(name) & set(names)} == {}
