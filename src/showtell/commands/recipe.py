"""`showtell recipe`: published configurations in recipes/, as flags for DVC or written into params.yaml.

A recipe is a small overlay of params.yaml: `based_on: NAME` and the values that differ from that recipe. Several can be
combined; where two set the same key the later one wins, so a dataset comes first and the system to reproduce after it.
Every system is based on `base`, which sets all keys in which systems differ.
"""

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import write_text
from showtell.core.params import SHARED, takes, validate_all
from showtell.core.progress import log
from showtell.core.yaml_files import edited, parsed, read_sections

RECIPES = Path("recipes")
REFUSED = "--no-such-recipe"  # DVC refuses it: `dvc exp run $(showtell recipe ...)` would run what is in params.yaml

Params = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "recipe of recipes/, or a YAML file; where two set a key, the later one counts"
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    parser.add_argument("--write", action="store_true", help="set params.yaml to it, keeping comments")
    parser.epilog = "dvc exp run $(showtell recipe coco show-attend-tell)"


def run(args: argparse.Namespace) -> int:
    if not args.names:
        width = max(len(path.stem) for path in known())
        print("\n".join(f"{path.stem:{width}}  {title(path)}" for path in known()))
        return 0
    try:
        overlay, params = merged(args.names), read_sections(paths.PARAMS)
        check(overlaid(params, overlay), f"{paths.PARAMS} with {' '.join(args.names)}")
        words = [] if args.write else flags(params, overlay)
    except UserError:
        if not args.write:
            print(REFUSED)
        raise
    if args.write:
        write_text(paths.PARAMS, written(paths.PARAMS.read_text(encoding="utf-8"), overlay))
        log(f"{paths.PARAMS} is set to {' '.join(args.names)} (`git diff {paths.PARAMS}`); next: dvc repro")
    else:
        print(" ".join(words))
    return 0


def known() -> list[Path]:
    """The files of recipes/; `UserError` where there are none."""
    found = sorted(RECIPES.glob("*.yaml"))
    if not found:
        raise UserError(f"there are no recipes in {RECIPES.absolute()}; run from the repository's root")
    return found


def title(path: Path) -> str:
    """The first line of a recipe's comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def merged(names: Sequence[str]) -> Params:
    """The recipes, each with the recipes that it is based on, merged in order."""
    overlay: Params = {}
    for name in names:
        for layer in read_recipe(name):
            overlay = laid_over(overlay, layer)
    return overlay


def read_recipe(name: str) -> list[Params]:
    """The overlays of the recipe called `name` (a file of recipes/ without its suffix, or the path of a YAML file): the
    recipes that it is based on first, its own last."""
    layers: list[Params] = []
    path, seen = _path(name, RECIPES), set()
    while path.resolve() not in seen:
        seen.add(path.resolve())
        layer = read_sections(path)
        if odd := [key for key in layer if not isinstance(key, str)]:
            raise UserError(f"{path}: {odd[0]} is not the name of a section or parameter")
        base = layer.pop("based_on", None)
        layers.insert(0, layer)
        if base is None:
            return layers
        if not isinstance(base, str):
            raise UserError(f"{path}: based_on must be the name of a recipe")
        path = _path(base, path.parent)
    raise UserError(f"{path}: it is based on itself")


def _path(name: str, beside: Path) -> Path:
    """The file of a recipe: the path itself, or in the folder `beside`, or in recipes/."""
    if name.endswith((".yaml", ".yml")):
        choices = [Path(name), beside / name]
    else:
        choices = [folder / f"{name}.yaml" for folder in (beside, RECIPES)]
    found = next((path for path in choices if path.is_file()), None)
    if found is None:
        raise UserError(f"there is no recipe {name!r}; there are {', '.join(path.stem for path in known())}")
    return found


def own_name(name: str) -> str | None:
    """The name of a recipe of recipes/, also where it is given as a path; None for other files."""
    path = _path(name, RECIPES)
    return path.stem if path.resolve().parent == RECIPES.resolve() else None


def laid_over(params: Params, overlay: Params) -> Params:
    """`params` updated with `overlay`, which may add keys."""
    result = copy.deepcopy(params)
    for section, values in overlay.items():
        if isinstance(values, dict) and isinstance(result.get(section), dict):
            result[section] |= values
        else:
            result[section] = values
    return result


def overlaid(params: Params, overlay: Params) -> Params:
    """The content of params.yaml after the recipe has been written into it."""
    result = copy.deepcopy(params)
    for key in defeating(params, overlay):
        section, _, name = key.partition(".")
        del result[section][name]
    return laid_over(result, unflat(changes(params, overlay)))


def changes(params: Params, overlay: Params) -> Params:
    """The value of every `section.key` to set. Null means absent: keys that are absent stay absent."""
    present = dict(flat(params))
    return {key: value for key, value in flat(overlay) if key in present or value is not None}


def defeating(params: Params, overlay: Params) -> list[str]:
    """`section.key` of values in `train`, `finetune` or `reinforce` that would override what `overlay` sets for all."""
    return [
        f"{section}.{key}"
        for shared, sections in SHARED.items()
        for section in sections
        for key in (params.get(section) or {})
        if takes(section, shared, key) and key in overlay.get(shared, {}) and key not in overlay.get(section, {})
    ]


def check(params: Params, where: str = "params.yaml") -> None:
    """Raise the errors that `dvc repro` would raise."""
    validate_all(params, Path(where))


def flat(overlay: Params) -> list[tuple[str, Any]]:
    """(`section.key`, value) of every value."""
    pairs: list[tuple[str, Any]] = []
    for section, values in overlay.items():
        if isinstance(values, dict):
            pairs += [(f"{section}.{key}", value) for key, value in values.items()]
        else:
            pairs.append((section, values))
    return pairs


def unflat(values: Params) -> Params:
    """`flat` undone."""
    overlay: Params = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        overlay |= {section: overlay.get(section, {}) | {name: value}} if name else {section: value}
    return overlay


def flags(params: Params, overlay: Params) -> list[str]:
    """`-S`, `key=value`, ... for `dvc exp run`; values must not contain spaces, where the shell would split them."""
    present, words = dict(flat(params)), []
    for key, value in changes(params, overlay).items():
        words += ["-S", f"{'' if key in present else '+'}{key}={shown(key, value)}"]
    for key in defeating(params, overlay):
        words += ["-S", f"~{key}"]
    return words


def shown(key: str, value: Any) -> str:
    """A value as one word of a command line that DVC and YAML parse as this value."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, list):
        text = f"[{','.join(map(str, value))}]"
    # As a pattern of file names, which a shell would expand, a list fits no name that a file here has.
    if not re.fullmatch(r"[\w./+-]+|\[[\w./,+-]+\]", text) or parsed(f"value: {text}", key) != {"value": value}:
        raise UserError(f"{key} = {text} cannot be a flag; use `showtell recipe --write`")
    return text


def written(text: str, overlay: Params) -> str:
    """The text of params.yaml with the recipe written into it, comments kept."""
    params = parsed(text, paths.PARAMS)
    return edited(text, changes(params, overlay), defeating(params, overlay))
