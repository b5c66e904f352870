"""RunComfy's schema dialect, read as JSON Schema: compiled, and asked for its defaults."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from jsonschema_rs import ReferencingError, RegexOptions, Validator, validator_for

from app.catalogue.errors import BrokenModelError
from app.core.pointers import pointer_steps

MAX_RULES = 5000
"""Of a schema, those it refers to counted each time; the largest bundled one has about sixty."""

# The other engine supports look-around and back-references, and may backtrack for very long.
_LINEAR_PATTERNS = RegexOptions()
_NUMBERS = frozenset({"integer", "number", "float", "boolean"})
_PLAIN_DATA = frozenset({"default", "enum", "const", "examples", "validations"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def compiled(schema: Mapping[str, Any]) -> Validator:
    """Compile `schema`; the dialect's own keywords mean nothing to the engine and are ignored."""
    _refuse_endless(schema)
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


def _refuse_endless(schema: Mapping[str, Any]) -> None:
    """Raise BrokenModelError for rules that could keep the event loop busy for very long.

    Forty definitions that each refer twice to the next are a million million rules.
    """
    waiting: list[Any] = [schema]
    for _ in range(MAX_RULES):
        if not waiting:
            return
        rule = waiting.pop()
        if isinstance(rule, list):
            waiting += rule
        elif isinstance(rule, Mapping):
            # Plain data is no rule, but any name may also be a field's, whose rules are an object.
            waiting += (
                part
                for keyword, part in rule.items()
                if keyword not in _PLAIN_DATA or isinstance(part, Mapping)
            )
            waiting += (_referred(schema, rule[name]) for name in _REFERENCES if name in rule)
    raise BrokenModelError(f"input_schema has more than {MAX_RULES} rules, or rules without end")


def _referred(schema: Any, reference: Any) -> Any:
    """Find what a path into the schema refers to, if anything; other references are refused."""
    if not isinstance(reference, str):
        return None
    if not reference.startswith("#/") and reference != "#":
        _refuse(reference)
    found = schema
    for step in pointer_steps(unquote(reference)):
        match found:
            case Mapping():
                found = found.get(step)
            case list() if step.isdecimal() and int(step[:9]) < len(found):
                found = found[int(step[:9])]
            case _:
                return None
    return found


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
    raise BrokenModelError(f"a schema may not refer to {uri}")
