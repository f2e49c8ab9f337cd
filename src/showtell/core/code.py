"""The code that a script runs: the modules of this package that it imports, and a fingerprint of their code.

The source is parsed, not imported. Every import counts, also one inside a function.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]


def needed(script: Path) -> set[Path]:
    """The files of the package that `script` imports, directly or indirectly, and the data files beside them."""
    found = {file for file, _ in _modules(script)} - {script}
    return found | _assets(found)


def code_fingerprint(script: Path) -> str:
    """8 hex digits for the code of `script` and the modules that it imports. Comments, docstrings, layout, assert
    statements and line numbers do not count."""
    said = {file: source.meaning for file, source in _modules(script)}
    own, modules = said.pop(script), sorted(said)
    name = hashlib.sha256(own.encode())
    for file in modules:
        name.update(f"\n{file.relative_to(PACKAGE)}\n{said[file]}".encode())
    for file in sorted(_assets(set(modules))):
        name.update(f"\n{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return name.hexdigest()[:8]


class _Source(NamedTuple):
    """A module's text, as far as it counts here."""

    needs: frozenset[str]  # paths in the package where modules may be that it imports
    meaning: str


def _modules(script: Path) -> Iterator[tuple[Path, _Source]]:
    """`script` and every module of the package that it needs."""
    there = {file.relative_to(PACKAGE).as_posix(): file for file in PACKAGE.rglob("*.py")}
    seen, waiting = {script}, [script]
    while waiting:
        file = waiting.pop()
        source = _read(file.read_bytes())
        new = {there[path] for path in source.needs & there.keys()} - seen
        seen |= new
        waiting += new
        yield file, source


@cache
def _read(content: bytes) -> _Source:
    """Read once in a process: a stage asks twice, and a test session many times."""
    tree = ast.parse(content)
    needs = frozenset(path for name in _imports(tree) for path in _places(name))
    return _Source(needs, _meaning(compile(tree, "", "exec", dont_inherit=True, optimize=2)))


def _meaning(code: CodeType) -> str:
    """A code object as text, without line numbers and file name."""
    constants = [_meaning(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_code, constants, names, counts, getattr(code, "co_exceptiontable", b"")))


def _constant(value: object) -> str:
    """A constant as text; the order of a frozenset differs from run to run, so it is sorted."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _imports(tree: ast.Module) -> set[str]:
    """Names of this package that `tree` imports. It also removes what depends on line numbers from the tree."""
    found: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            found.update(names)
        elif isinstance(node, ast.ClassDef):  # since Python 3.13 a class stores its line number as a constant
            parts: list[ast.stmt | ast.expr] = [node, *node.decorator_list]
            for part in parts:
                part.lineno = 1
    return {name for name in found if name.partition(".")[0] == PACKAGE.name}


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements except those under TYPE_CHECKING and those in a module's `__getattr__`.

    Expressions are not entered: they contain no statements and are most of a tree.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            continue
        yield node
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):
            inner = getattr(node, part, None)
            if isinstance(inner, list):  # the body of a lambda or a conditional expression is not a list
                waiting += inner


def _places(name: str) -> Iterator[str]:
    """Where the module `name` and its parent packages may be in the package."""
    yield "__init__.py"
    parts = name.split(".")[1:]
    for count in range(1, len(parts) + 1):
        stem = "/".join(parts[:count])
        yield from (f"{stem}.py", f"{stem}/__init__.py")


def _assets(modules: set[Path]) -> set[Path]:
    """The other files in the folders of these modules: styles, pages, scripts and tables that they read.

    Files that editors and desktops leave (`.loop.py.swp`, `loop.py~`, `#loop.py#`, `.DS_Store`) are none.
    """
    beside = (file for folder in {module.parent for module in modules} for file in folder.iterdir() if file.is_file())
    kept = (file for file in beside if not file.name.startswith((".", "#")) and not file.name.endswith("~"))
    return {file for file in kept if file.suffix not in (".py", ".pyc")}
