"""`showtell recipe`: published configurations, from files of recipes/ to flags for DVC or into params.yaml.

A recipe is a small overlay of params.yaml. Several are laid one over the other; where two set the same key the later
one counts, so a dataset goes first and the system that is to be reproduced after it.
"""

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import write_text
from showtell.core.params import SECTIONS, read_sections, validate

RECIPES = Path("recipes")

Params = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipe of recipes/, or a YAML file; later ones count")
    parser.add_argument("--write", action="store_true", help="set params.yaml to it, keeping comments")
    parser.epilog = "dvc exp run $(showtell recipe coco show-attend-tell)"


def run(args: argparse.Namespace) -> int:
    if not args.names:
        print("\n".join(f"{path.stem:20} {title(path)}" for path in sorted(RECIPES.glob("*.yaml"))))
        return 0
    overlay = merged(args.names)
    text = paths.PARAMS.read_text(encoding="utf-8") if paths.PARAMS.is_file() else ""
    params = overlaid(yaml.safe_load(text) or {}, overlay)
    check(params)
    if args.write:
        write_text(paths.PARAMS, edited(text, overlay))
    else:
        print(" ".join(flags(overlay)))
    return 0


def title(path: Path) -> str:
    """The first line of a recipe's comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def read_recipe(name: str) -> Params:
    """The overlay called `name` (a file of recipes/ without its ending, or the path of a YAML file)."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml"))) or f"none in {RECIPES}/"
        raise UserError(f"there is no recipe {name!r}; there are {known}")
    return read_sections(path)


def merged(names: Sequence[str]) -> Params:
    """The recipes laid one over the other."""
    overlay: Params = {}
    for name in names:
        for section, values in read_recipe(name).items():
            if isinstance(values, dict) and isinstance(overlay.get(section), dict):
                overlay[section] = overlay[section] | values
            else:
                overlay[section] = values
    return overlay


def overlaid(params: Params, overlay: Params) -> Params:
    """`params` with the values of `overlay`; `UserError` for a key that params.yaml does not have."""
    result = copy.deepcopy(params)
    for key, value in flat(overlay):
        *sections, last = key.split(".")
        place = result
        for section in sections:
            place = place.get(section) if isinstance(place.get(section), dict) else {}
        if last not in place:
            raise UserError(f"a recipe sets {key}, which {paths.PARAMS} does not have")
        place[last] = value
    return result


def check(params: Params) -> None:
    """Refuse what `dvc repro` would refuse."""
    for name in SECTIONS:
        validate(name, params, paths.PARAMS)


def flat(overlay: Params) -> list[tuple[str, Any]]:
    """(`section.key`, value) of every value."""
    pairs: list[tuple[str, Any]] = []
    for section, values in overlay.items():
        if isinstance(values, dict):
            pairs += [(f"{section}.{key}", value) for key, value in values.items()]
        else:
            pairs.append((section, values))
    return pairs


def flags(overlay: Params) -> list[str]:
    """`-S`, `key=value`, ... as `dvc exp run` takes them; no value may hold a space, for the shell splits there."""
    words = []
    for key, value in flat(overlay):
        text = shown(value)
        if re.search(r"[\s*?\[\]]", text):
            raise UserError(f"{key} = {text} cannot be a flag; use `showtell recipe --write`")
        words += ["-S", f"{key}={text}"]
    return words


def shown(value: Any) -> str:
    """A value as YAML has it on one line. Small numbers without an exponent: YAML reads 1e-05 as a word."""
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{value:.12f}".rstrip("0")
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def edited(text: str, overlay: Params) -> str:
    """The text of params.yaml with the values of `overlay`, every comment where it was."""
    wanted, section, lines = dict(flat(overlay)), "", []
    for line in text.split("\n"):
        match = re.match(r"(\s*)([\w-]+):([^#]*)(#.*)?$", line)
        if match:
            indent, key, _, comment = match.groups(default="")
            name = f"{section}.{key}" if indent else key
            section = section if indent else key
            if name in wanted:
                column = match.start(4) - 2 if comment else 0  # two spaces at least before a comment
                setting = f"{indent}{key}: {shown(wanted[name])}"
                line = f"{setting:{max(column, 0)}}  {comment}" if comment else setting
        lines.append(line)
    result = "\n".join(lines)
    if yaml.safe_load(result) != overlaid(yaml.safe_load(text), overlay):
        raise UserError(f"{paths.PARAMS} is written in a way that cannot be edited line by line; use the flags instead")
    return result
