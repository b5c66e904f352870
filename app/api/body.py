"""JSON bodies, read strictly: what cannot be stored or compared is refused by name."""

import json
import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Never, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.api.problems import UnsupportedMediaTypeError
from app.core.errors import FieldError, InvalidRequestError, MalformedBodyError

Body = TypeVar("Body", bound=BaseModel)

_DEEPEST = 100  # far from the depth at which recursion ends a program


async def json_body(request: Request) -> Any:
    """Read the body as JSON (RFC 8259, in UTF-8), without NaN and without text that is none."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise UnsupportedMediaTypeError(
            f"The body is {media_type[:100]!r}; send JSON with Content-Type: application/json."
        )
    raw = await request.body()
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant, parse_float=_finite_float)
    except RecursionError as exc:
        raise MalformedBodyError("The body is nested too deeply to be read.") from exc
    except ValueError as exc:  # of JSON, of UTF-8, or a number of thousands of digits
        raise MalformedBodyError(f"The body is not JSON in UTF-8: {_reason(exc)}.") from exc
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST and _is_deeper(value, _DEEPEST):
        raise MalformedBodyError(f"The body is nested more than {_DEEPEST} levels deep.")
    if b"\\u" in raw:
        _refuse_broken_text(value)
    return value


def parse(kind: type[Body], value: Any) -> Body:
    """Make a wire model of a body, or raise InvalidRequestError with every fault in it."""
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        errors = [
            _field_error(kind, error["loc"], error["type"], error["msg"])
            for error in exc.errors(include_input=False, include_url=False)
        ]
        raise InvalidRequestError(
            "The body breaks the rules of this call; `errors` names each field.", errors=errors
        ) from exc


def _field_error(
    kind: type[BaseModel], loc: tuple[int | str, ...], rule: str, message: str
) -> FieldError:
    pointer = "".join(f"/{_escaped(str(part))}" for part in loc)
    name = pointer or "the body"
    match rule:
        case "missing":
            return FieldError(pointer=pointer, code="required", detail=f"{name} is missing.")
        case "extra_forbidden":
            known = list(kind.model_fields)
            near = get_close_matches(str(loc[-1]), known, n=1)
            way_out = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            return FieldError(
                pointer=pointer, code="unknown_field", detail=f"{name} is not known: {way_out}"
            )
        case _:
            detail = f"{name}: {message[:1].lower()}{message[1:]}."
            return FieldError(pointer=pointer, code=rule, detail=detail)


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


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _refuse_broken_text(value: Any) -> None:
    errors = [
        FieldError(
            pointer=pointer,
            code="invalid_text",
            detail=f"{pointer or 'the body'} holds a NUL or half of a surrogate pair;"
            " neither can be stored: leave it out.",
        )
        for pointer, text in _texts(value, "")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    ]
    if errors:
        raise InvalidRequestError("The body holds text that is none.", errors=errors[:20])


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
                yield from _texts(item, f"{pointer}/{_escaped(key)}")
        case _:
            return


def _escaped(part: str) -> str:
    """Write one part of a JSON pointer (RFC 6901), in characters that any encoding can carry."""
    plain = part.encode("utf-8", "replace").decode()
    return plain[:200].replace("~", "~0").replace("/", "~1")


def _reason(exc: ValueError) -> str:
    """Say what is wrong and where, without the body itself."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
    if isinstance(exc, UnicodeDecodeError):
        return f"byte {exc.start} is not UTF-8"
    return str(exc)
