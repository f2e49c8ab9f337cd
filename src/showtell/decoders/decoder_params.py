"""The section `decoder` of params.yaml: `kind` says which decoder, and so which other keys there are."""

import json
from typing import Any, get_args

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from showtell.core.params import Section


class DecoderParams(Section):
    """Base of the decoders' parameters; each kind has a subclass with the keys that it reads.

    `DecoderParams.model_validate({"kind": ..., ...})` gives an instance of the subclass of that kind. A key that the
    kind does not read is refused, since its value would have no effect; it may be absent, null or false.
    """

    kind: str = Field(description="which decoder")

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, data: Any, handler: ModelWrapValidatorHandler["DecoderParams"]) -> "DecoderParams":
        if cls is not DecoderParams or not isinstance(data, dict) or "kind" not in data:
            return handler(data)
        classes = _classes()
        kind = data["kind"]
        if not isinstance(kind, str) or kind not in classes:
            raise _refused(kind, f"there is no such decoder; there are {', '.join(sorted(classes))}")
        others = {key for other in classes.values() for key in other.model_fields} - set(classes[kind].model_fields)
        unread = [key for key in data if key in others and data[key] is not None and data[key] is not False]
        needed = {key: field for key, field in classes[kind].model_fields.items() if _lacks(data, key, field)}
        if unread or needed:
            raise _refused(kind, _advice(unread, needed, data))
        return classes[kind].model_validate({key: value for key, value in data.items() if key not in others})


def _classes() -> dict[str, type[DecoderParams]]:
    from showtell.decoders import DECODERS  # not at the top: the decoders' modules import this one

    return {kind: decoder.Params for kind, decoder in DECODERS.items()}


def _refused(kind: Any, reason: str) -> ValidationError:
    """A validation error at the key `kind`."""
    error = PydanticCustomError("kind", "{reason}", {"reason": reason})
    return ValidationError.from_exception_data("decoder", [InitErrorDetails(type=error, loc=("kind",), input=kind)])


def _lacks(data: dict[str, Any], key: str, field: FieldInfo) -> bool:
    """Whether a required key has no value."""
    if key not in data:
        return field.is_required()
    return data[key] is None and type(None) not in get_args(field.annotation)


def _advice(unread: list[str], needed: dict[str, FieldInfo], data: dict[str, Any]) -> str:
    """Which keys to set so that the section fits its kind, in one line, as flags of `dvc exp run`."""
    said = []
    if unread:
        said.append(f"does not read {', '.join(unread)}")
    if needed:
        said.append(f"needs {', '.join(needed)}")
    flags = [f"-S decoder.{key}=null" for key in unread]
    for key, field in needed.items():
        absent = "" if key in data else "+"  # DVC's prefix for a key that the file does not have
        flags.append(f"-S {absent}decoder.{key}={json.dumps((field.examples or [None])[0]).strip(chr(34))}")
    return f"it {' and '.join(said)}; set for example {' '.join(flags)}"
