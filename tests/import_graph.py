"""Rewrites the code among the deps of every stage in dvc.yaml: the modules that the stage imports."""

from pathlib import Path

from showtell.core import code
from showtell.core.code import PACKAGE

ROOT = Path(__file__).parent.parent


def needed(script: Path) -> set[Path]:
    """The files of the package that `script` needs, relative to the repository's root."""
    return {file.relative_to(ROOT) for file in code.needed(script)}


def code_deps(script: Path) -> list[str]:
    """The code among a stage's deps: script and modules; a package is one entry if the stage needs all of it."""
    files = code.needed(script)
    for package in sorted({file.parent for file in files} - {PACKAGE}):
        if set(package.rglob("*.py")) <= files:
            files = {file for file in files if package not in file.parents} | {package}
    return [str(path.relative_to(ROOT)) for path in [script, *sorted(files)]]


def main() -> None:
    """Rewrite the code among the deps of every stage in dvc.yaml; the rest of the file is kept."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(ROOT / "dvc.yaml")
    for name, stage in content["stages"].items():
        data = [dep for dep in stage.get("deps", []) if not dep.startswith(("src/", "stages/"))]
        stage["deps"] = data + code_deps(ROOT / "stages" / f"{name}.py")
    yaml.dump(content, ROOT / "dvc.yaml")


if __name__ == "__main__":
    main()
