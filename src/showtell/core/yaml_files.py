"""YAML files of parameters: read by one strict schema, and edited with their comments kept.

Plain scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2, section 10.3.2): `1e-05` is a number.
Spellings that YAML readers take for different numbers, such as `010`, `0x1F`, `1_000` or `1:30`, stay text, as dates
and `yes` do, and a parameter that must be a number refuses them.
"""

import re
from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.resolver import VersionedResolver

from showtell.core.errors import UserError
from showtell.core.files import write_text

# Integers have at most 18 digits: longer ones may exceed 64 bits.
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0|[1-9][0-9]{0,17})",
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}


class _CoreSchema(VersionedResolver):
    """Types of plain scalars, whatever YAML version a file declares."""

    versioned_resolver = {  # noqa: RUF012 a property in the base class, called for every scalar
        None: [(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z")) for kind, pattern in _SCALARS.items()]
    }


def read_sections(path: Path) -> dict[str, Any]:
    """The sections of a YAML file, their content unchecked; `UserError` when it is not a mapping."""
    try:
        return parsed(Path(path).read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the repository's root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def parsed(text: str, path: Path | str) -> dict[str, Any]:
    """The sections in `text`; `path` names it in the `UserError` when it is not a mapping."""
    try:
        raw = deepcopy(_content(text))
    except MarkedYAMLError as error:
        raise UserError(f"{path} is not valid YAML{_place(error)}: {_problem(error)}") from None
    except (YAMLError, ValueError) as error:  # ValueError: an explicit tag that the value does not fit
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise UserError(f"{path} is not valid YAML: it is nested too deeply") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold sections, one key each")
    return raw


@lru_cache(maxsize=8)
def _content(text: str) -> Any:
    """What `text` holds, parsed once: a stage reads several sections of the same file."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _CoreSchema
    return yaml.load(text)


def _problem(error: MarkedYAMLError) -> str:
    """The parser's message; its context is left out unless the message needs it."""
    parts = [error.context, error.problem] if (error.problem or "but").startswith("but") else [error.problem]
    return " ".join(" ".join(part for part in parts if part).split())[:200]


def _place(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f" (line {mark.line + 1})" if mark else ""


def set_values(path: Path, changes: Mapping[str, Any]) -> None:
    """Change a YAML file of sections as `edited` does; `UserError` when it is not one."""
    read_sections(path)
    write_text(path, edited(Path(path).read_text(encoding="utf-8"), changes))


def edited(text: str, changes: Mapping[str, Any], removed: Collection[str] = ()) -> str:
    """`text` with the values of `changes` and without the keys `removed`, both named `section.key` or `key`.

    Everything else stays unchanged, and changes are formatted as `dvc exp run -S` formats them: both write with
    ruamel.yaml. A new key is inserted before the last key of its section, since ruamel.yaml attaches comments that
    follow the last key, such as the head of the next section, to that key.
    """
    yaml = YAML()
    yaml.default_flow_style = False
    lines, content = text.split("\n"), yaml.load(text) or {}
    rows = [_mapping(content, key).lc.key(_last(key))[0] for key in removed]
    kept = "\n".join(line for row, line in enumerate(lines) if row not in rows)
    content, wanted = yaml.load(kept) or {}, parsed(kept, "the file")
    for key, value in changes.items():
        mapping, last = _mapping(content, key), _last(key)
        if last in mapping:
            mapping[last] = value
        else:
            mapping.insert(max(len(mapping) - 1, 0), last, value)
        _mapping(wanted, key)[last] = value
    out = StringIO()
    yaml.dump(content, out)
    if parsed(out.getvalue(), "the file") != wanted:
        raise UserError(f"{', '.join(changes)} cannot be set in a file that is written like this; set them by hand")
    return out.getvalue()


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _mapping(content: Any, key: str) -> Any:
    """The mapping that holds `key`."""
    section = key.rpartition(".")[0]
    if section and not isinstance(content.get(section), dict):
        raise UserError(f"the section {section!r} is missing")
    return content[section] if section else content
