"""The code that a script runs: the modules of this package that it imports, and a fingerprint of their code.

The source is parsed, not imported. Every import counts, also one inside a function.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

PACKAGE = Path(__file__).parents[1]


def needed(script: Path) -> set[Path]:
    """The files of the package that `script` imports, directly or indirectly, and the data files beside them."""
    found = {file for file, _ in _modules(script)} - {script}
    return found | _assets(found)


def code_fingerprint(script: Path) -> str:
    """8 hex digits for the code of `script` and the modules that it imports. Comments, docstrings, layout, assert
    statements and line numbers do not count."""
    said = {file: _meaning(compile(tree, "", "exec", dont_inherit=True, optimize=2)) for file, tree in _modules(script)}
    own, modules = said.pop(script), sorted(said)
    name = hashlib.sha256(own.encode())
    for file in modules:
        name.update(f"\n{file.relative_to(PACKAGE)}\n{said[file]}".encode())
    for file in sorted(_assets(set(modules))):
        name.update(f"\n{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return name.hexdigest()[:8]


def _meaning(code: CodeType) -> str:
    """A code object as text, without line numbers and file name."""
    constants = [_meaning(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_code, constants, names, counts, getattr(code, "co_exceptiontable", b"")))


def _constant(value: object) -> str:
    """A constant as text; the order of a frozenset differs from run to run, so it is sorted."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _modules(script: Path) -> Iterator[tuple[Path, ast.Module]]:
    """`script` and every module of the package that it needs, with its syntax tree; one tree in memory at a time."""
    seen, waiting = {script}, [script]
    while waiting:
        file = waiting.pop()
        tree = ast.parse(file.read_bytes())
        new = _imports(tree) - seen
        seen |= new
        waiting += new
        yield file, tree


def _imports(tree: ast.Module) -> set[Path]:
    files: set[Path] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            for name in names:
                files |= _files(name)
        elif isinstance(node, ast.ClassDef):  # since Python 3.13 a class stores its line number as a constant
            parts: list[ast.stmt | ast.expr] = [node, *node.decorator_list]
            for part in parts:
                part.lineno = 1
    return files


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


def _files(name: str) -> frozenset[Path]:
    """The file of the module `name`, if it is part of this package, and the `__init__.py` of its parent packages."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return frozenset()
    stems = [PACKAGE.joinpath(*parts[1 : count + 1]) for count in range(len(parts))]
    return frozenset(f for stem in stems for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file())


def _assets(modules: set[Path]) -> set[Path]:
    """The other files in the folders of these modules: styles, pages, scripts and tables that they read."""
    beside = (file for folder in {module.parent for module in modules} for file in folder.iterdir() if file.is_file())
    return {file for file in beside if file.suffix not in (".py", ".pyc")}
