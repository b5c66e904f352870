"""RunComfy's bodies as records: every known variant is read, and none is trusted blindly.

Pure functions of parsed JSON. What cannot be read raises TryLaterError: all that is parsed here
answers calls that may be repeated.
"""

import json
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from app.core.timestamps import from_rfc3339
from app.upstream.errors import TryLaterError
from app.upstream.messages import clean, said


class RemoteState(StrEnum):
    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"  # ended, well or badly: only the result says which
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CancelOutcome(StrEnum):
    CANCELLED = "cancelled"
    CANCELLATION_REQUESTED = "cancellation_requested"
    NOT_CANCELLABLE = "not_cancellable"


Output: TypeAlias = dict[str, str | list[str]]
"""URLs under RunComfy's own keys."""

# A result may repeat its input, which may be 64 MiB long: files can be inside it.
LONGEST_ANSWER = 72 * 2**20
OUTPUT_KEYS = ("video", "videos", "image", "images", "audio", "audios")


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    state: RemoteState
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class RemoteError:
    type: str | None
    message: str


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """There is an `output` exactly if it SUCCEEDED, and an `error` exactly if it FAILED."""

    state: RemoteState
    output: Output | None
    error: RemoteError | None
    cost_usd: Decimal | None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CataloguePage:
    """Entries as they came, not parsed; `total` counts those of all pages, if upstream says it."""

    entries: list[Any]
    total: int | None


def decode(raw: bytes | bytearray) -> Any:
    """Parse JSON, or return None for anything else: a CDN may answer in HTML at any time.

    A badly encoded character, as in an input that is repeated, spoils only itself. A body that is
    compressed, although we asked for none, is read up to LONGEST_ANSWER bytes; of brackets alone
    those would take gigabytes of memory.
    """
    try:
        if raw.startswith(_GZIP):
            raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, LONGEST_ANSWER)
        if sum(map(raw.count, (b"[", b"{", b","))) > _MOST_VALUES:
            return None
        return json.loads(raw.decode(json.detect_encoding(raw), "replace"))
    except (ValueError, RecursionError, zlib.error):
        return None


def parse_request_id(body: Any) -> str | None:
    request_id = body.get("request_id") if isinstance(body, dict) else None
    if type(request_id) is int and request_id > 0:  # no form is documented
        request_id = str(request_id)
    if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id):
        return request_id
    return None


def parse_error_code(body: Any) -> str | None:
    """Find the code that makes an answer an error, even under HTTP 200."""
    code = body.get("error_code") if isinstance(body, dict) else None
    if isinstance(code, bool) or not isinstance(code, int | str):
        return None
    word = clean(str(code))[:64]
    return word if word.strip("0") else None  # other APIs use zero for success


def parse_status(body: Any) -> RemoteStatus:
    state = _state(body)
    position = body.get("queue_position")
    valid = type(position) is int and 0 <= position <= _HIGHEST_POSITION
    return RemoteStatus(state=state, queue_position=position if valid else None)


def parse_result(body: Any, *, hidden: Collection[str] = ()) -> RemoteResult:
    """Read how a job ended; a success that names no output is a failure.

    `hidden` strings are kept out of the error's message.
    """
    state = _state(body)
    output = _output(body.get("output"))
    error = body.get("error")
    if state in {RemoteState.COMPLETED, RemoteState.SUCCEEDED}:
        state = RemoteState.SUCCEEDED if output else RemoteState.FAILED
        error = error or {"type": "no_output", "message": "RunComfy reported success, but no file."}
    return RemoteResult(
        state=state,
        output=output if state is RemoteState.SUCCEEDED else None,
        error=_error(error, hidden=hidden) if state is RemoteState.FAILED else None,
        cost_usd=_money(body.get("cost")),
        finished_at=from_rfc3339(body.get("finished_at")),
    )


def parse_cancel(body: Any) -> CancelOutcome:
    """Decide by `outcome`; the status beside it may say `completed` for a job just cancelled."""
    outcome, status = (_word(_object(body).get(key)) for key in ("outcome", "status"))
    if not outcome and status.startswith("cancel"):
        outcome = status
    if outcome in _CANCELLED:
        return CancelOutcome.CANCELLED
    if outcome.startswith("cancel"):
        return CancelOutcome.CANCELLATION_REQUESTED
    if outcome == CancelOutcome.NOT_CANCELLABLE:
        return CancelOutcome.NOT_CANCELLABLE
    raise TryLaterError("RunComfy did not say what came of the cancel.")


def parse_page(body: Any) -> CataloguePage:
    entries, total = (_object(body).get(key) for key in ("models", "total"))
    if not isinstance(entries, list):
        raise TryLaterError("RunComfy's catalogue lists no models.")
    return CataloguePage(entries, total if type(total) is int else None)


_GZIP = b"\x1f\x8b"
_MOST_VALUES = 4_000_000  # commas in the texts of an input that is repeated count, too
_MOST_OUTPUTS = 1000  # of a key; each is signed anew whenever its job is shown
_LONGEST_OUTPUTS = 2**19  # of a key; all are read and written with their job
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HIGHEST_POSITION = 1_000_000_000  # what any integer column holds
_HIGHEST_COST = 1_000_000
_CANCELLED = frozenset({"cancelled", "canceled"})
_STATES = {str(state): state for state in RemoteState} | {"canceled": RemoteState.CANCELLED}
_NOT_IN_URLS = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
# Some hosts do not escape a space in a file's name.
_ADDRESS = re.compile(
    rf"https?://[^\s/?{_NOT_IN_URLS}]+[/?][^{_NOT_IN_URLS}]{{0,8192}}", re.IGNORECASE
)
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp"})
_AUDIOS = frozenset({".mp3", ".wav", ".flac", ".ogg", ".m4a", ".aac", ".opus"})


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise TryLaterError("RunComfy's answer is not a JSON object.")
    return body


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _state(body: Any) -> RemoteState:
    word = _word(_object(body).get("status"))
    if not word:
        raise TryLaterError("RunComfy's answer has no status.")
    return _STATES.get(word, RemoteState.IN_PROGRESS)


def _error(error: Any, *, hidden: Collection[str]) -> RemoteError:
    kind = error.get("type") if isinstance(error, dict) else None
    return RemoteError(
        type=clean(kind, hidden=hidden)[:64] or None if isinstance(kind, str) else None,
        message=clean(said(error), hidden=hidden) or "RunComfy gave no reason.",
    )


def _money(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
        return round(amount, 6) if 0 <= amount < _HIGHEST_COST else None
    except (ArithmeticError, ValueError):
        return None


def _output(output: Any) -> Output | None:
    named = output if isinstance(output, dict) else {}
    found = {key: urls for key in OUTPUT_KEYS if (urls := _addresses(named.get(key)))}
    return found or _by_kind(_addresses(output))


def _addresses(value: Any) -> str | list[str] | None:
    if not isinstance(value, list):
        return _address(value)
    found: list[str] = []
    room = _LONGEST_OUTPUTS
    for url in islice(filter(None, map(_address, value)), _MOST_OUTPUTS):
        room -= len(url)
        if room < 0:
            break
        found.append(url)
    return found


def _address(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("url")
    return value if isinstance(value, str) and _ADDRESS.fullmatch(value) else None


def _by_kind(found: str | list[str] | None) -> Output | None:
    """Put bare URLs under the keys that their file name endings suggest."""
    if isinstance(found, str):
        return {_kind(found): found}
    filed: dict[str, list[str]] = {}
    for url in found or ():
        filed.setdefault(f"{_kind(url)}s", []).append(url)
    return dict(filed) or None


def _kind(url: str) -> str:
    ending = PurePosixPath(re.split(r"[?#]", url, maxsplit=1)[0]).suffix.lower()
    if ending in _IMAGES:
        return "image"
    return "audio" if ending in _AUDIOS else "video"
