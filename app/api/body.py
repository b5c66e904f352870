"""JSON bodies, described and read strictly: what cannot be stored or compared is refused."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Never, TypeVar

from fastapi import Request
from pydantic import BaseModel, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from app.api.problems import PayloadTooLargeError, UnsupportedMediaTypeError, contrast
from app.catalogue.checker import MAX_ERRORS
from app.catalogue.portability import is_storable
from app.core.errors import BROKEN_BODY, FieldError, InvalidRequestError, MalformedBodyError
from app.core.pointers import json_pointer
from app.core.suggestions import did_you_mean

Body = TypeVar("Body", bound=BaseModel)

BODY_PROBLEMS = (
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
)

_LONGEST_INTEGER = 1000  # digits; JSON has no limit, and the cost of our arithmetic is quadratic
_MOST_VALUES = 20_000  # far more than any call needs, and still quick to read and to validate
_SAID_OF_A_FIELD = {"description", "default", "example"}
_DEEPEST = 100  # far below the depth at which Python's recursion ends


class CreateBody(BaseModel):
    """What something is made of: null in an optional field is as if that were left out.

    Clients that are generated write null for whatever is not set. In a PATCH null has a meaning.
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
    """Describe a JSON body that `parse` reads, whose schema the framework does not know."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": _inlined(schema, definitions)}},
        }
    }


async def json_body(request: Request) -> Any:
    """Read the body as JSON (RFC 8259, in UTF-8), without NaN and the like."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise UnsupportedMediaTypeError(
            f"The body is {media_type[:100]!r}; send JSON with Content-Type: application/json."
        )
    packing = request.headers.get("content-encoding", "identity")
    if packing.lower() != "identity":
        raise UnsupportedMediaTypeError(
            f"The body is packed ({packing[:100]!r}); send it as it is, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    raw = await request.body()
    openings = raw.count(b"[") + raw.count(b"{")
    if openings + raw.count(b",") > _MOST_VALUES:
        raise MalformedBodyError(
            f"The body has more than {_MOST_VALUES} commas and brackets, and is not read."
        )
    try:
        value = json.loads(
            raw.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_short_integer,
        )
    except RecursionError as exc:
        raise MalformedBodyError("The body is nested too deeply to be read.") from exc
    except ValueError as exc:  # of JSON, of UTF-8, or of ours
        raise MalformedBodyError(f"The body is not JSON in UTF-8: {_reason(exc)}.") from exc
    if openings > _DEEPEST and _is_deeper(value, _DEEPEST):
        raise MalformedBodyError(f"The body is nested more than {_DEEPEST} levels deep.")
    return value


async def optional_json_body(request: Request) -> Any:
    """Treat a missing body as an empty object."""
    return await json_body(request) if await request.body() else {}


def parse(kind: type[Body], value: Any) -> Body:
    """Make a wire model of a body, or raise InvalidRequestError with all its faults."""
    _refuse_broken_text(value)
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        told = exc.errors(include_url=False)[:MAX_ERRORS]
        errors = [_field_error(kind, error) for error in told]
        raise InvalidRequestError(BROKEN_BODY, errors=errors) from exc


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Allow null as well, in the form that pydantic writes."""
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return schema
    said = {
        name: part
        for name, part in schema.items()
        if name in _SAID_OF_A_FIELD and part != {}  # a default that generators cannot write
    }
    rules = {name: part for name, part in schema.items() if name not in _SAID_OF_A_FIELD}
    return {"anyOf": [rules, null], **said}


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
    is_key = path[2:] == ["[key]"]  # pydantic's way to say that the key before it is at fault
    if is_key:
        path.pop()
    pointer = json_pointer(*path)
    name, limits = pointer or "The body", error.get("ctx", {})
    match error["type"]:
        case "missing":
            code, flaw = "required", "is missing"
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
            code, flaw = "max_properties", f"must have at most {limits['max_length']} entries"
        case other:
            code, flaw = other, f"is refused: {error['msg']}{contrast(error)}"
    return FieldError(pointer=pointer, code=code, detail=f"{name} {flaw}.")


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")


def _short_integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"a number of {len(text)} digits is too long")
    return int(text)


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _refuse_broken_text(value: Any) -> None:
    if not _holds_broken_text(value):
        return
    errors = [
        FieldError(
            pointer=pointer,
            code="invalid_text",
            detail=f"{pointer or 'the body'} holds a NUL or half of a surrogate pair;"
            " neither can be stored: leave it out.",
        )
        for pointer, text in _texts(value, "")
        if not is_storable(text)
    ]
    raise InvalidRequestError("The body holds text that cannot be stored.", errors=errors[:20])


def _holds_broken_text(value: Any) -> bool:
    """Return whether there is any; finding where it stands takes longer."""
    items = [value]
    for item in items:  # it grows by what is found inside
        if isinstance(item, dict):
            items += [*item, *item.values()]
        elif isinstance(item, list):
            items += item
        elif isinstance(item, str) and not is_storable(item):
            return True
    return False


def _texts(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield pointer, value
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, f"{pointer}/{index}")
        case dict():
            for key, item in value.items():
                yield pointer, key
                yield from _texts(item, pointer + json_pointer(key))
        case _:
            return


def _reason(exc: ValueError) -> str:
    """Say what is wrong and where, without the body itself."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
    if isinstance(exc, UnicodeDecodeError):
        return f"byte {exc.start} is not UTF-8"
    return str(exc)
