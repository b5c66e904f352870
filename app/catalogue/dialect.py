"""RunComfy's schema dialect, read as JSON Schema: compiled, and asked for its defaults."""

from collections.abc import Mapping
from typing import Any

from jsonschema_rs import ReferencingError, RegexOptions, Validator, validator_for

from app.catalogue.errors import BrokenModelError

# The other engine supports look-around and back-references, and may backtrack for very long.
_LINEAR_PATTERNS = RegexOptions()
_NUMBERS = frozenset({"integer", "number", "float", "boolean"})
_PLAIN_DATA = frozenset({"default", "enum", "const", "examples", "validations"})
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def compiled(schema: Mapping[str, Any]) -> Validator:
    """Compile `schema`; the dialect's own keywords mean nothing to the engine and are ignored."""
    try:
        return validator_for(
            _translated(schema), retriever=_refuse, pattern_options=_LINEAR_PATTERNS
        )
    except (ValueError, TypeError, RecursionError, ReferencingError) as exc:
        rule = str(exc).partition("\n")[0]
        raise BrokenModelError(f"input_schema is not a valid schema: {rule}") from exc


def fields_of(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """List the fields in the schema's order, each with its rules."""
    fields = schema.get("properties", {})
    return {name: field if isinstance(field, dict) else {} for name, field in fields.items()}


def types_of(field: Mapping[str, Any]) -> frozenset[str]:
    """List the types a field may have; an empty list means any."""
    types = field.get("type", ())
    return frozenset([types] if isinstance(types, str) else types)


def is_choice_or_number(field: Mapping[str, Any]) -> bool:
    """Return whether it is a setting: its values may be filled in and quoted, a prompt's never."""
    types = types_of(field) - {"null"}
    return "enum" in field or (bool(types) and types <= _NUMBERS)


def defaults_of(schema: Mapping[str, Any], validator: Validator) -> dict[str, Any]:
    """List the defaults that may be filled in; one that breaks its own field's rules may not."""
    defaults = {
        name: field["default"]
        for name, field in fields_of(schema).items()
        if is_choice_or_number(field) and isinstance(field.get("default"), str | int | float)
    }
    broken = {
        error.instance_path[0] for error in validator.iter_errors(defaults) if error.instance_path
    }
    return {name: value for name, value in defaults.items() if name not in broken}


def _translated(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_translated(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {keyword: _translated_keyword(keyword, value) for keyword, value in schema.items()}


def _translated_keyword(keyword: str, value: Any) -> Any:
    if keyword in _PLAIN_DATA:
        return value
    if keyword == "type":
        return _translated_type(value)
    if keyword in _NAMED_SCHEMAS and isinstance(value, Mapping):
        return {name: _translated(field) for name, field in value.items()}
    return _translated(value)


def _translated_type(value: Any) -> Any:
    if isinstance(value, list):
        return list(dict.fromkeys(map(_translated_type, value)))
    return "number" if value == "float" else value


def _refuse(uri: str) -> Any:
    raise ValueError(f"a schema may not refer to {uri}")
