"""Request bodies as wire models: their schemas, and all of a body's errors reported at once."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from app.api.problems import PayloadTooLargeError, UnsupportedMediaTypeError, contrast
from app.catalogue.portability import is_storable, texts_in
from app.core.errors import (
    BROKEN_BODY,
    MAX_ERRORS,
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
)
from app.core.pointers import json_pointer
from app.core.suggestions import did_you_mean

Body = TypeVar("Body", bound=BaseModel)

BODY_PROBLEMS = (
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
)

# JSON Schema's keywords for the rules that pydantic has its own names for.
_KEYWORDS = {
    "bool_type": "type",
    "greater_than_equal": "minimum",
    "int_type": "type",
    "less_than_equal": "maximum",
    "list_type": "type",
    "literal_error": "enum",
    "string_pattern_mismatch": "pattern",
    "too_short": "min_items",
}
_ANNOTATIONS = {"description", "default", "example"}


class CreateBody(BaseModel):
    """The body of a create call: null in an optional field counts as leaving it out.

    Generated clients write null for whatever is not set. In a PATCH, null has a meaning.
    """

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: part
            for name, part in value.items()
            if part is not None or not cls._is_optional(name)
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, field in schema["properties"].items():
            if cls._is_optional(name):
                schema["properties"][name] = _or_null(field)
        return schema

    @classmethod
    def _is_optional(cls, name: str) -> bool:
        return name in cls.model_fields and not cls.model_fields[name].is_required()


def body_of(kind: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Describe a JSON body that `parse` reads; the framework does not know its schema."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": _inlined(schema, definitions)}},
        }
    }


def parse(kind: type[Body], value: Any) -> Body:
    """Turn a body into a wire model, or raise InvalidRequestError with all its errors."""
    _refuse_broken_text(value)
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        found = exc.errors(include_url=False)[:MAX_ERRORS]
        errors = [_field_error(kind, error) for error in found]
        raise InvalidRequestError(BROKEN_BODY, errors=errors) from exc


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Allow null as well, in the form that pydantic writes."""
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return schema
    annotations = {
        name: part
        for name, part in schema.items()
        if name in _ANNOTATIONS and part != {}  # code generators cannot write this default
    }
    rules = {name: part for name, part in schema.items() if name not in _ANNOTATIONS}
    return {"anyOf": [rules, null], **annotations}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    match schema:
        case {"$ref": str(ref)}:
            return _inlined(definitions[ref.rpartition("/")[2]], definitions)
        case dict():
            return {name: _inlined(part, definitions) for name, part in schema.items()}
        case list():
            return [_inlined(part, definitions) for part in schema]
        case _:
            return schema


def _field_error(kind: type[BaseModel], error: ErrorDetails) -> FieldError:
    path = list(error["loc"])
    is_key = path[2:] == ["[key]"]  # pydantic's way of saying that the key before it is at fault
    if is_key:
        path.pop()
    pointer = json_pointer(*path)
    name, limits = pointer or "The body", error.get("ctx", {})
    match error["type"]:
        case "missing":
            code, flaw = "required", "is missing"
        case "extra_forbidden" if len(path) > 1:
            code, flaw = "unknown_field", "is not known"
        case "extra_forbidden":
            known = kind.model_fields
            way_out = did_you_mean(str(path[-1]), known) or f": known are {', '.join(known)}"
            code, flaw = "unknown_field", f"is not known{way_out}"
        case "string_type":
            code, flaw = "type", "must be text"
        case "dict_type" | "model_type":
            code, flaw = "type", "must be an object"
        case "string_too_long":
            what = "a key" if is_key else "text"
            flaw = f"must be {what} of at most {limits['max_length']} characters"
            code = "max_length"
        case "too_long":
            code = "max_items" if limits["field_type"] == "List" else "max_properties"
            flaw = f"must have at most {limits['max_length']} entries"
        case other:
            code = _KEYWORDS.get(other, other)
            flaw = f"is refused: {error['msg']}{contrast(error)}"
    return FieldError(pointer=pointer, code=code, detail=f"{name} {flaw}.")


def _refuse_broken_text(value: Any) -> None:
    if all(map(is_storable, texts_in(value))):  # locating a broken one takes longer
        return
    broken = (json_pointer(*path) for path, text in _placed_texts(value) if not is_storable(text))
    errors = [
        FieldError(
            pointer=pointer,
            code="invalid_text",
            detail=f"{pointer or 'the body'} holds a NUL or half of a surrogate pair;"
            " neither can be stored: leave it out.",
        )
        # Limited before they are built: there may be 20,000, each a hundred names long.
        for pointer in islice(broken, MAX_ERRORS)
    ]
    raise InvalidRequestError("The body holds text that cannot be stored.", errors=errors)


def _placed_texts(value: Any, *path: str | int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    match value:
        case str():
            yield path, value
        case list():
            for index, item in enumerate(value):
                yield from _placed_texts(item, *path, index)
        case dict():
            for key, item in value.items():
                yield path, key
                yield from _placed_texts(item, *path, key)
        case _:
            return
