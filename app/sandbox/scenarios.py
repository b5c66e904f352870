"""The magic words: what a prompt can ask the sandbox to do, and how such a prompt is read.

Words may stand anywhere in any text of the input, separated by spaces:
`a red fox sandbox:slow=30 sandbox:poll-504=2`.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from app.core.suggestions import did_you_mean

Call = Literal["submit", "poll", "result", "cancel"]
CALLS: tuple[Call, ...] = get_args(Call)

FAULTS: Mapping[str, str] = {
    "reset": "The connection is reset without an answer.",
    "hang": "No answer ever comes.",
    "half": "The connection closes in the middle of the answer.",
    "html": "200 with a page of HTML.",
    "empty": "200 with an empty body.",
    "junk": "200 with JSON that is not an object.",
    "no-id": "The usual answer without its `request_id`.",
    "error-200": "200 whose body carries an `error_code`.",
    "400001": "400: malformed, or an unknown model.",
    "400002": "400: no balance left.",
    "400004": "400: the token is missing, expired or revoked.",
    "401": "401: the token is not accepted.",
    "402": "402: no balance left.",
    "403": "403: not allowed.",
    "403001": "403: belongs to another account.",
    "404": "404: not found.",
    "404001": "404: the request is unknown, deleted or expired.",
    "408": "408: took too long.",
    "422": "422 with `detail[]`: the input does not match.",
    "429": "429 with `Retry-After: 2`; see `retry-after`.",
    "500": "500 with an error body.",
    "502": "502 with a page of HTML.",
    "503": "503 with an error body.",
    "504": "504 with a page of HTML, as a CDN sends.",
}
"""Each fault and what it looks like."""


@dataclass(frozen=True, slots=True)
class Word:
    """`default` is used when no value is written; without one the word takes no value."""

    meaning: str
    default: float | str | None = None
    choices: tuple[str, ...] = ()


_FAULT = tuple(FAULTS)

WORDS: Mapping[str, Word] = {
    "instant": Word("Completes as soon as it is accepted."),
    "queue": Word("Waits this many seconds in the queue (10).", 10.0),
    "slow": Word("Takes this many seconds in progress (30).", 30.0),
    "stuck": Word("Stays in progress for ever."),
    "stuck-in-queue": Word("Stays in the queue for ever."),
    "fail": Word(
        "Fails; its error is an `object`, `string`, `list` or `none` (object).",
        "object",
        ("object", "string", "list", "none"),
    ),
    "output": Word(
        "Succeeds with `video`, `image`, `audio`, `videos`, `images`, `audios`, a bare"
        " `string` or `list`, or without any: key `none`, `null`, `empty` or `blank` (none).",
        "none",
        (
            *("video", "image", "audio", "videos", "images", "audios"),
            *("string", "list", "none", "null", "empty", "blank"),
        ),
    ),
    "output-gone": Word("The output's file answers 404 this many seconds after the end (0).", 0.0),
    "output-503": Word(
        "The output's file answers 503 until this many seconds after the end (86400).", 86_400.0
    ),
    "echo-input": Word("The result carries the submitted input beside its output."),
    "cost": Word("Costs this many US dollars (1), whatever the catalogue says.", 1.0),
    "late-cost": Word("The cost appears this many seconds after the end (30).", 30.0),
    "no-cost": Word("The cost never appears."),
    "expired": Word(
        "Unknown (404001) once this many seconds have passed since its submit (0).", 0.0
    ),
    "queued-word": Word("What a queued job's status says (pending).", "pending"),
    "running-word": Word("What a running job's status says (reticulating).", "reticulating"),
    "status-word": Word(
        "What `/status` says at the end, whatever the outcome (succeeded).", "succeeded"
    ),
    "result-word": Word("What `/result` says of a success (completed).", "completed"),
    "fail-word": Word("What `/result` says of a failure (error).", "error"),
    "cancelled-word": Word("What a cancelled job's status says (canceled).", "canceled"),
    "letters": Word("Statuses in `upper` or `title` letters (upper).", "upper", ("upper", "title")),
    "position-base": Word("The front of the queue has this `queue_position` (1).", 1.0),
    "no-position": Word("There is no `queue_position`."),
    "long-id": Word("The `request_id` is 128 characters long."),
    "cancel-outcome": Word(
        "The `outcome` of a granted cancel, `none` for no such key (cancellation_requested).",
        "cancellation_requested",
    ),
    "cancel-status": Word("The `status` beside a cancel's outcome (completed).", "completed"),
    "cancel-lag": Word("A granted cancel takes effect after this many seconds (30).", 30.0),
    "cancel-undone": Word(
        "A cancelled job turns out after this many seconds to have run on (30).", 30.0
    ),
    "cancel-ignored": Word("A cancel is granted, yet the job runs on to its end."),
    "error-key": Word(
        "Errors have their text in `message`, `error`, `detail` or `error_message` (message).",
        "message",
        ("message", "error", "detail", "error_message"),
    ),
    "error-code": Word(
        "Errors carry their code as `string`, `int` or `none` (string).",
        "string",
        ("string", "int", "none"),
    ),
    "retry-after": Word(
        "Errors that say when to come back say this: seconds, `date` or `none` (none).", "none"
    ),
    "lost-answer": Word("Accepted, but the answer is lost to this fault (reset).", "reset", _FAULT),
    "lost-cancel": Word(
        "The first cancel is carried out, but its answer is lost to this fault (reset).",
        "reset",
        _FAULT,
    ),
    "cut-request": Word("Reset as soon as the word arrives; the rest of the body stays unread."),
    "submit-FAULT": Word(
        "This many first submits of this input meet the fault; none is accepted (1).", 1.0
    ),
    "poll-FAULT": Word("This many first calls to `/status` or `/result` meet the fault (3).", 3.0),
    "result-FAULT": Word("This many first calls to `/result` meet the fault (3).", 3.0),
    "cancel-FAULT": Word("This many first cancels meet the fault; nothing is cancelled (1).", 1.0),
}
"""Every magic word; `FAULT` stands for any key of FAULTS."""


class UnknownWordError(ValueError):
    """An unknown magic word or value; the message names what might be meant."""


@dataclass(frozen=True, slots=True)
class Script:
    """The magic words of one input, each with its value."""

    values: Mapping[str, float | str]

    def __contains__(self, word: str) -> bool:
        return word in self.values

    def number(self, word: str, default: float) -> float:
        return float(self.values.get(word, default))

    def text(self, word: str, default: str) -> str:
        return str(self.values.get(word, default))

    def fault_at(self, call: Call, nth: int) -> str | None:
        """Name the fault that the nth such call meets; several faults come one after another."""
        last = 0.0
        for word, times in self.values.items():
            family, _, fault = word.partition("-")
            if family == call and fault in FAULTS:
                last += float(times)
                if nth <= last:
                    return fault
        return None


def read_script(given: Mapping[str, Any]) -> Script:
    """Find the magic words in every text of an input, or raise UnknownWordError."""
    tokens = itertools.chain.from_iterable(_MAGIC.findall(text) for text in texts(given))
    return Script(dict(_parse(token) for token in tokens))


def texts(value: Any) -> Iterator[str]:
    """Walk every string inside a JSON value, in the order it was written."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for item in value.values():
                yield from texts(item)
        case _:
            return


# A word must stand alone, so that a host called "sandbox:8000" inside an address is not one. What
# precedes it is checked last, so that the search is for its letters: an input can be a whole file.
_MAGIC = re.compile(r"sandbox:(?<!\Ssandbox:)(\S+)")
_CONCRETE: Mapping[str, Word] = {
    **{name: word for name, word in WORDS.items() if not name.endswith("-FAULT")},
    **{f"{call}-{fault}": WORDS[f"{call}-FAULT"] for call in CALLS for fault in FAULTS},
}


def _parse(token: str) -> tuple[str, float | str]:
    name, _, value = token.rstrip(".,;:!?)\"'").partition("=")
    word = _CONCRETE.get(name)
    if word is None:
        raise UnknownWordError(f"there is no magic word {name!r}{did_you_mean(name, _CONCRETE)}")
    return name, _value_of(name, word, value)


def _value_of(name: str, word: Word, value: str) -> float | str:
    if word.default is None:
        if value:
            raise UnknownWordError(f"the magic word {name!r} takes no value")
        return ""
    if not value:
        return word.default
    if isinstance(word.default, float):
        return _number(name, value)
    if word.choices and value not in word.choices:
        raise UnknownWordError(
            f"{name!r} does not take {value!r}{did_you_mean(value, word.choices)}"
        )
    return value


def _number(name: str, value: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value):
        raise UnknownWordError(f"the magic word {name!r} takes a number, not {value!r}")
    return float(value)
