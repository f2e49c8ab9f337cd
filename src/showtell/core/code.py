"""What code a script runs: the modules of this package that it imports, and a name for what they say.

Read from the source, so that nothing has to be imported: every import counts, also those inside functions.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType

PACKAGE = Path(__file__).parents[1]


def needed(script: Path) -> set[Path]:
    """The files of the package that `script` imports, and those that they import; what lies beside them, too."""
    found = set(_trees(script)) - {script}
    return found | _assets(found)


def code_fingerprint(script: Path) -> str:
    """8 hex digits that name what `script` and the modules that it imports do: comments, docstrings, layout and assert
    statements do not count, nor do the numbers of lines."""
    name = hashlib.sha256()
    trees = _trees(script)
    for file in sorted(trees, key=lambda file: (file != script, file)):
        compiled = compile(_anywhere(trees[file]), "", "exec", dont_inherit=True, optimize=2)
        name.update(f"{file.relative_to(PACKAGE) if file != script else file.name}\n{_meaning(compiled)}\n".encode())
    for file in sorted(_assets(set(trees) - {script})):
        name.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return name.hexdigest()[:8]


def _anywhere(tree: ast.Module) -> ast.Module:
    """The tree with its classes at line 1: since Python 3.13 a class keeps the number as a value."""
    for node in _every(tree.body):
        if isinstance(node, ast.ClassDef):
            for part in (node, *node.decorator_list):
                part.lineno = 1
    return tree


def _meaning(code: CodeType) -> str:
    """A code object without what tells where its source stands."""
    constants = [_meaning(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_code, constants, names, counts, getattr(code, "co_exceptiontable", b"")))


def _constant(value: object) -> str:
    """Sets come in another order each time."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _trees(script: Path) -> dict[Path, ast.Module]:
    """The syntax trees of `script` and of every module of the package that it needs."""
    trees: dict[Path, ast.Module] = {}
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in trees:
            trees[file] = ast.parse(file.read_bytes())
            waiting += _imports(trees[file])
    return trees


def _imports(tree: ast.Module) -> set[Path]:
    files: set[Path] = set()
    for node in _statements(tree.body):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
        for name in names:
            files |= _files(name)
    return files


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements; what only type checkers see, and what a module's `__getattr__` imports, do not count."""
    return (node for node in _every(body, _seen) if isinstance(node, ast.Import | ast.ImportFrom))


def _seen(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) != "TYPE_CHECKING"
    return not (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")


def _every(body: Iterable[ast.AST], enter: Callable[[ast.AST], bool] = lambda node: True) -> Iterator[ast.AST]:
    """All statements of `body` and within them, where `enter` says so. Expressions hold none, and are most nodes."""
    for node in body:
        if enter(node):
            yield node
            for part in ("body", "orelse", "handlers", "finalbody", "cases"):
                inner = getattr(node, part, [])
                if isinstance(inner, list):  # that of a lambda or a conditional is an expression
                    yield from _every(inner, enter)


def _files(name: str) -> set[Path]:
    """The module `name`, if it is one of ours, and the packages that it lies in."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return set()
    files = set()
    for count in range(len(parts)):
        path = PACKAGE.joinpath(*parts[1 : count + 1])
        files |= {f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()}
    return files


def _assets(modules: set[Path]) -> set[Path]:
    """What lies beside these modules and is no module: styles, pages, scripts that they read."""
    beside = (file for folder in {module.parent for module in modules} for file in folder.iterdir() if file.is_file())
    return {file for file in beside if file.suffix not in (".py", ".pyc")}
