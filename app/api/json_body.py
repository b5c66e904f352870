"""Request bodies as JSON, read strictly: what cannot be compared or computed with is refused."""

import json
import math
from typing import Any, Never

from fastapi import Request

from app.api.problems import UnsupportedMediaTypeError
from app.core.errors import MalformedBodyError

_LONGEST_INTEGER = 1000  # digits; JSON sets no limit, and arithmetic on them is quadratic
_MOST_VALUES = 20_000  # far more than any call needs, yet quick to parse and validate
_DEEPEST = 100  # far below Python's recursion limit


async def json_body(request: Request) -> Any:
    """Read the body as JSON (RFC 8259, in UTF-8), without NaN and the like."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise UnsupportedMediaTypeError(
            f"The body is {media_type[:100]!r}; send JSON with Content-Type: application/json."
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaTypeError(
            f"The body is compressed ({encoding[:50]!r}); send it plain, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    # Not `body()`: the request would keep the bytes in memory beside the parsed value.
    raw = b"".join([chunk async for chunk in request.stream()])
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
    except ValueError as exc:  # from the parser, the decoder or our hooks
        raise MalformedBodyError(f"The body is not JSON in UTF-8: {_reason(exc)}.") from exc
    if openings > _DEEPEST and _is_deeper(value, _DEEPEST):
        raise MalformedBodyError(f"The body is nested more than {_DEEPEST} levels deep.")
    return value


async def optional_json_body(request: Request) -> Any:
    """Treat a missing body as an empty object."""
    return await json_body(request) if await request.body() else {}


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


def _reason(exc: ValueError) -> str:
    """Say what is wrong and where, without the body itself."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
    if isinstance(exc, UnicodeDecodeError):
        return f"byte {exc.start} is not UTF-8"
    return str(exc)
