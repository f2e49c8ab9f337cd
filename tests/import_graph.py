"""Which modules of showtell a script needs, read from the source: every import, also those inside functions."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"


def needed(script: Path) -> set[Path]:
    """The files under src/ that `script` imports, and those that they import, relative to the repository's root."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        for file in _imports(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting.append(file)
    return {file.relative_to(SOURCE.parent) for file in found | _assets(found)}


def _assets(modules: set[Path]) -> set[Path]:
    """What lies beside these modules and is no module: styles, pages, scripts that they read."""
    beside = (file for folder in {module.parent for module in modules} for file in folder.iterdir() if file.is_file())
    return {file for file in beside if file.suffix not in (".py", ".pyc")}


def _imports(file: Path) -> set[Path]:
    files: set[Path] = set()
    for node in _statements(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names:
            files |= _files(name)
    return files


def _statements(node: ast.AST):
    """Import statements; what only type checkers see, and what a module's `__getattr__` imports, do not count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.FunctionDef) and child.name == "__getattr__":
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from _statements(child)


def _files(name: str) -> set[Path]:
    """The module `name`, if it is one of ours, and the packages that it lies in."""
    parts = name.split(".")
    if parts[0] != "showtell":
        return set()
    files = set()
    for count in range(1, len(parts) + 1):
        path = SOURCE.joinpath(*parts[:count])
        files |= {f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()}
    return files


def code_deps(script: Path) -> list[str]:
    """What a stage's deps must list of the code: script and modules; a package all of which it needs, as one."""
    root = SOURCE.parent
    files = {root / file for file in needed(script)}
    for package in sorted({file.parent for file in files} - {SOURCE / "showtell"}):
        if set(package.rglob("*.py")) <= files:
            files = {file for file in files if package not in file.parents} | {package}
    return [str(path.relative_to(root)) for path in [script, *sorted(files)]]


def main() -> None:
    """Rewrite the code among the deps of every stage in dvc.yaml; what else the file says stays."""
    from ruamel.yaml import YAML

    root, yaml = SOURCE.parent, YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(root / "dvc.yaml")
    for name, stage in content["stages"].items():
        data = [dep for dep in stage.get("deps", []) if not dep.startswith(("src/", "stages/"))]
        stage["deps"] = data + code_deps(root / "stages" / f"{name}.py")
    yaml.dump(content, root / "dvc.yaml")


if __name__ == "__main__":
    main()
