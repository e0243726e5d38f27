"""Turn a validation error into one line: where, which key, what is wrong, what was meant."""

import types
import typing
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from keeper.errors import ConfigError

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no option of the keeper",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "decimal_parsing": "must be a number",
    "decimal_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotes",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "path_type": "must be a path in quotes",
    "string_pattern_mismatch": "must be a short name of a-z, 0-9, _ and -",
}


def complain(
    error: ValidationError,
    model: type[BaseModel],
    where: Callable[[str], str],
    prefix: str = "",
) -> ConfigError:
    """Describe the most telling fault: a misspelt key before the missing one it stands for."""
    faults = [
        each
        for each in error.errors(include_url=False, include_input=False)
        if each["type"] != "default_factory_not_called"  # follows from another fault of the table
    ]
    fault = min(faults, key=lambda each: each["type"] != "extra_forbidden")
    location = [part for part in fault["loc"] if part != "[key]"]
    key = ".".join([*prefix.split("."), *map(str, location)] if prefix else map(str, location))
    what = _WORDS.get(fault["type"]) or _plain(fault["msg"])
    hint = ""
    if fault["type"] == "extra_forbidden":
        known = fields_at(model, location[:-1])
        close = get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
    rest = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return ConfigError(f"{where(key)}: {key + ' ' if key else ''}{what}{rest}", hint)


def fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the option names of the table at a location below a model."""
    annotation: Any = model
    within_names = False
    for part in location:
        if within_names:
            within_names = False
            continue
        field = annotation.model_fields.get(str(part)) if _is_model(annotation) else None
        if field is None:
            return []
        within_names = not _is_model(field.annotation) and not _is_optional(field.annotation)
        annotation = _model_in(field.annotation)
    return list(annotation.model_fields) if _is_model(annotation) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_optional(annotation: Any) -> bool:
    return types.NoneType in typing.get_args(annotation)


def _model_in(annotation: Any) -> Any:
    """Return the model inside an optional, a list or a table of tables."""
    if _is_model(annotation):
        return annotation
    for argument in reversed(typing.get_args(annotation)):
        if argument is types.NoneType:
            continue
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
