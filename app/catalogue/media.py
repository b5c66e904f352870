"""Fields that hold images, video or audio: how they are recognised, and what they may hold."""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from app.catalogue.dialect import types_of
from app.catalogue.errors import BrokenModelError
from app.catalogue.wording import label, pointer
from app.core.errors import FieldError
from app.core.ids import is_id
from app.core.pointers import pointer_steps
from app.net.reach import Reach
from app.net.urls import is_data_uri, url_flaw

MediaKind = Literal["image", "video", "audio", "media"]
MediaFault = Literal[
    "media_url",
    "media_data_uri",
    "unknown_file",
    "media_denied",
    "media_redirects",
    "media_unreachable",
    "media_type",
    "media_unreadable",
    "media_too_large",
    "file_size_mb",
    "width_pixels",
    "height_pixels",
    "aspect_ratio",
]
"""What can be wrong with a file that an input names: the code of its error."""

URL_WAY_OUT = "a public https:// URL, a base64 data URI or a file_... of yours may stand here"

_FORMATS: dict[str, MediaKind] = {
    "image_uri": "image",
    "image_uris": "image",
    "video_uri": "video",
    "video_uris": "video",
    "audio_uri": "audio",
    "audio_uris": "audio",
}
_NOUNS: dict[str, MediaKind] = {
    "image": "image",
    "img": "image",
    "photo": "image",
    "picture": "image",
    "frame": "image",
    "keyframe": "image",
    "mask": "image",
    "video": "video",
    "clip": "video",
    "audio": "audio",
}
_LINKS = frozenset({"url", "uri"})
# Words that may follow the noun without making it a setting: `image_tail`, but not `image_size`.
_PLACES = frozenset(
    {"start", "end", "first", "last", "head", "tail", "input", "ref", "reference", "list", "file"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_DATA_URI = re.compile(
    r"data:(?P<kind>[a-z]+)/[a-z0-9][a-z0-9.+-]*(?:;[a-z0-9_.-]+=[^;,\s]*)*;base64,",
    re.IGNORECASE,
)
_LONGEST_DATA_URI_HEAD = 256
_MOST_FILES = 100  # per field; models take up to sixteen, or set no limit


@dataclass(frozen=True)
class MediaRule:
    """A condition that the file must satisfy, such as `width_pixels<` 6000; 6000 itself passes."""

    rule: str
    value: Any
    message: str

    @property
    def subject(self) -> str:
        return self.rule[:-1]

    @property
    def comparison(self) -> str:
        return self.rule[-1:]


@dataclass(frozen=True)
class MediaCheck:
    """A file that has yet to be inspected."""

    pointer: str
    value: str
    kind: MediaKind
    rules: tuple[MediaRule, ...]

    @property
    def label(self) -> str:
        return label(*pointer_steps(self.pointer)[1:])

    @property
    def places(self) -> tuple[str, ...]:
        """Point at the file, and at the list that it stands in."""
        _input, field, *index = pointer_steps(self.pointer)
        return (self.pointer, pointer(field)) if index else (self.pointer,)

    def fault(self, code: MediaFault | Literal["type"], flaw: str) -> FieldError:
        """Say what is wrong with the file; `flaw` is the end of a sentence."""
        return FieldError(pointer=self.pointer, code=code, detail=f"{self.label} {flaw}.")


@dataclass(frozen=True)
class MediaField:
    name: str
    kind: MediaKind
    rules: tuple[MediaRule, ...]

    @cached_property
    def _pointer(self) -> str:
        return pointer(self.name)

    def check(self, value: Any, *, reach: Reach) -> Iterator[FieldError | MediaCheck]:
        """Return for each file named here why it is refused, or what is left to inspect."""
        if isinstance(value, list) and len(value) > _MOST_FILES:
            flaw = f"{label(self.name)} must have at most {_MOST_FILES} item(s)."
            yield FieldError(pointer=self._pointer, code="max_items", detail=flaw)
            return
        elements = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, element in elements:
            at = self._pointer if index is None else f"{self._pointer}/{index}"
            file = MediaCheck(at, element, self.kind, self.rules)
            refusal = self._refusal(element, reach=reach)
            yield file.fault(*refusal) if refusal else file

    def _refusal(
        self, value: Any, *, reach: Reach
    ) -> tuple[MediaFault | Literal["type"], str] | None:
        if not isinstance(value, str):
            return "type", "must be text: a public https:// URL or a base64 data URI"
        if is_id(value, prefix="file"):
            return None  # whether it is the caller's own is checked later, in storage
        if is_data_uri(value):
            flaw = _data_uri_flaw(value, kind=self.kind)
            return ("media_data_uri", flaw) if flaw else None
        flaw = url_flaw(value, reach=reach)
        return ("media_url", f"{flaw}; {URL_WAY_OUT}") if flaw else None


def media_field(name: str, field: Mapping[str, Any]) -> MediaField | None:
    """Recognise a media field by its format, its name, or the rules that only files can break."""
    if not _holds_texts(field):
        return None
    rules = tuple(map(_rule, [*_listed(field), *_listed(_items(field))]))
    kind = _format_kind(field) or _name_kind(name) or ("media" if rules else None)
    return MediaField(name, kind, rules) if kind else None


def _holds_texts(field: Mapping[str, Any]) -> bool:
    types = types_of(field)
    if "enum" in field or "enum" in _items(field):
        return False
    if not types or "string" in types:
        return True
    return "array" in types and types_of(_items(field)) <= {"string", "null"}


def _items(field: Mapping[str, Any]) -> Mapping[str, Any]:
    items = field.get("items")
    return items if isinstance(items, dict) else {}


def _listed(field: Mapping[str, Any]) -> list[Any]:
    rules = field.get("validations", [])
    return rules if isinstance(rules, list) else [rules]


def _rule(entry: Any) -> MediaRule:
    match entry:
        case {"validation_rule": str(rule), "validation_value": int() | float() as value}:
            message = entry.get("validation_error") or f"The file must satisfy {rule} {value}."
            return MediaRule(rule, value, str(message))
        case _:
            raise BrokenModelError("each of `validations` needs validation_rule, validation_value")


def _format_kind(field: Mapping[str, Any]) -> MediaKind | None:
    formats = (field.get("format"), _items(field).get("format"))
    return next((_FORMATS[name] for name in formats if name in _FORMATS), None)


def _name_kind(name: str) -> MediaKind | None:
    words = [word.lower().removesuffix("s") for word in _WORD.findall(name)]
    while words and words[-1] in _PLACES:
        words.pop()
    if not words:
        return None
    if words[-1] in _LINKS:
        return next((_NOUNS[word] for word in reversed(words) if word in _NOUNS), "media")
    return _NOUNS.get(words[-1])


def _data_uri_flaw(uri: str, *, kind: MediaKind) -> str | None:
    example = f"data:{'image' if kind == 'media' else kind}/*;base64,<data>"
    head = _DATA_URI.match(uri[:_LONGEST_DATA_URI_HEAD])
    if head is None:
        return f"must be a data URI of the form {example}"
    allowed = {"image", "video", "audio"} if kind == "media" else {kind}
    if head["kind"].lower() not in allowed:
        return f"must be a data URI of the media type {' or '.join(sorted(allowed))}: {example}"
    payload = uri[head.end() :]
    if not payload:
        return "must be a data URI that is not empty"
    if not _is_base64(payload):
        return "must be a data URI with valid base64, padded and without line breaks"
    return None


def _is_base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return False
    data = text.rstrip("=")
    return len(text) - len(data) == -len(data) % 4  # strict mode lets surplus padding pass
