"""Sentences for broken rules: the field, what it must be, and what it was, unless that is text."""

import re
from collections.abc import Mapping
from typing import Any

from jsonschema_rs import ValidationError, ValidationErrorKind

from app.catalogue.dialect import is_choice_or_number
from app.catalogue.wording import clipped, label, pointer, quoted
from app.core.errors import FieldError
from app.core.suggestions import nearest

_DEMANDS = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "exclusiveMinimum": "must be more than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
    "multipleOf": "must be a multiple of {multiple_of}",
    "minLength": "must have at least {limit} character(s)",
    "maxLength": "must have at most {limit} character(s)",
    "minItems": "must have at least {limit} item(s)",
    "maxItems": "must have at most {limit} item(s)",
    "uniqueItems": "must not name the same item twice",
    "pattern": "must match the pattern {pattern}",
}
_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def broken_rule(error: ValidationError, fields: Mapping[str, Mapping[str, Any]]) -> FieldError:
    """Explain what the validation engine found; `fields` says what each field may be."""
    path = error.instance_path
    field = fields.get(str(path[0]), {}) if path else {}
    if isinstance(error.kind, ValidationErrorKind.Required):
        path = [*path, error.kind.property]
        detail = f"{label(*path)} is missing, and this model needs it; add it to the input."
        return FieldError(pointer=pointer(*path), code="required", detail=detail)
    where = label(*path) if path else "The input"
    demand = _demand(error.kind, field if len(path) == 1 else {})
    return FieldError(
        pointer=pointer(*path),
        code=_CAMEL_HUMP.sub("_", error.kind.name).lower(),
        detail=f"{where} {demand}{_contrast(error.instance, field)}.",
    )


def not_storable(name: str, flaw: str) -> FieldError:
    return FieldError(
        pointer=pointer(name),
        code="not_storable",
        detail=f"{label(name)} {flaw}, or it can be neither stored nor sent.",
    )


def unknown_field(name: str, fields: Mapping[str, Any]) -> FieldError:
    near = nearest(clipped(name), fields)
    guess = f" Did you mean {label(near)}?" if near else ""
    known = ", ".join(map(label, fields))
    detail = f"This model has no field {label(name)}.{guess} Its fields are {known}."
    return FieldError(pointer=pointer(name), code="unknown_field", detail=detail)


def _demand(kind: ValidationErrorKind, field: Mapping[str, Any]) -> str:
    match kind:
        case ValidationErrorKind.Type(types=types):
            demand = f"must be {' or '.join(_TYPES.get(name, name) for name in types)}"
            return f"{demand}: {_choices(field['enum'])}" if "enum" in field else demand
        case ValidationErrorKind.Enum(options=options):
            return f"must be {_choices(options)}"
        case ValidationErrorKind.Minimum() | ValidationErrorKind.Maximum() if (
            "minimum" in field and "maximum" in field
        ):
            return f"must be from {field['minimum']} to {field['maximum']}"
        case _:
            fallback = f"breaks the rule `{kind.name}` of this model's input_schema"
            return _DEMANDS.get(kind.name, fallback).format_map(kind.as_dict())


def _choices(options: list[Any]) -> str:
    return f"one of {', '.join(map(quoted, options))}"


def _contrast(value: Any, field: Mapping[str, Any]) -> str:
    """Quote what was sent where it cannot be a prompt, a file or anything long."""
    if value is None:
        return ", not null; an optional field is left out instead"
    is_scalar = isinstance(value, str | int | float)
    return f", not {quoted(value)}" if is_scalar and is_choice_or_number(field) else ""
