"""Makes RunComfy's messages fit to be shown and logged."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 500
# Shorter values in an input ("720p", "true") are ordinary words in a useful message.
_SHORTEST_HIDDEN = 8
# The rest of a longer word, such as a file sent inside the request, is never shown.
_LONGEST_WORD = 2**16
# As much as is read of a text, on the event loop. No secret in it is longer than a word may be.
_LONGEST_LINE = 2**18
_MOST_STEPS = 10
_DEEPEST = 4
_KEYS = ("error_message", "message", "error", "detail", "msg")
# Has a scheme, or is a word with a query, which is where signatures are.
_ADDRESS = re.compile(r"\b(?:https?://|data:)\S+|(?<!\S)[^\s?]+\?[^\s=]*=\S*", re.IGNORECASE)


def said(body: Any) -> str:
    """Find the sentence in an error of any known shape; nothing else in it is ever shown."""
    for _ in range(_DEEPEST):
        if not isinstance(body, dict):
            break
        body = next(filter(None, map(body.get, _KEYS)), None)
    if isinstance(body, list):
        return "; ".join(filter(None, map(_located, body[:5])))
    return body if isinstance(body, str) else ""


def clean(text: str, *, hidden: Iterable[str] = ()) -> str:
    """Make one short line without URLs, which may be signed, and without `hidden`."""
    spaced = _spaced(text)
    line = _printable(spaced)
    for value in hidden:
        # A value longer than the text cannot be in it: a 60 MB data URI costs nothing here.
        if len(value) <= len(text) and (secret := _printable(_spaced(value))):
            line = line.replace(secret, "[hidden]")
    if len(spaced) == _LONGEST_LINE:  # it was cut there, perhaps inside a secret
        line = line[:-_LONGEST_WORD]
    return _ADDRESS.sub("[address]", line)[:LONGEST]


def strings(value: Any) -> Iterator[str]:
    """Yield the strings in an input that an error message must not repeat."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text) if len(text) >= _SHORTEST_HIDDEN:
                yield text
            case dict(entries):
                waiting.extend(entries.values())
            case list(items):
                waiting.extend(items)
            case _:
                pass


def _located(item: Any) -> str:
    """Read one entry of a list, such as FastAPI's `detail`: where, and what is wrong there."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else ""
    where = item.get("loc")
    sentence = next((each for each in map(item.get, _KEYS) if each and isinstance(each, str)), "")
    steps = where[1:_MOST_STEPS] if isinstance(where, list) else []
    path = ".".join(str(step) for step in steps if isinstance(step, str | int))
    return f"{path}: {sentence}" if path and sentence else sentence


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    # Drop control characters, direction marks, and lone surrogates, which no database accepts.
    return _spaced("".join(each if each.isprintable() else " " for each in line))


def _spaced(text: str) -> str:
    # With more words than it has characters at most, the line is cut in any case.
    words = text.split(maxsplit=_LONGEST_LINE)[:_LONGEST_LINE]
    return " ".join(word[:_LONGEST_WORD] for word in words)[:_LONGEST_LINE]
