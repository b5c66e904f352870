"""The bytes of an upload as they come: a raw body, or the field `file` of a multipart form."""

from collections import deque
from collections.abc import AsyncIterator

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import FieldError, InvalidRequestError, MalformedBodyError

_FIELD = b"file"
_MOST_PARTS = 100  # empty ones cost far more to parse than to send
_MOST_OPTIONS = 100  # so do these


def uploaded_bytes(request: Request) -> AsyncIterator[bytes]:
    media_type, options = _options(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data":
        return request.stream()
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBodyError("The Content-Type multipart/form-data has no boundary.")
    return _file_of_form(request.stream(), boundary)


async def _file_of_form(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """Yield the bytes of the one field `file`; other fields are skipped."""
    form = _Form(boundary)
    async for chunk in body:
        form.feed(chunk)
        while form.data:
            yield form.data.popleft()
    if not form.is_whole:
        raise MalformedBodyError("The form ends before its last boundary.")
    if not form.files:
        detail = "The form has no field `file`; send the file in a field of that name."
        raise InvalidRequestError(
            detail, errors=[FieldError(pointer="/file", code="required", detail=detail)]
        )


def _options(header: str) -> tuple[bytes, dict[bytes, bytes]]:
    if header.count(";") > _MOST_OPTIONS:
        raise MalformedBodyError(f"A header of the form has more than {_MOST_OPTIONS} options.")
    return parse_options_header(header)


class _Form:
    """A push parser: fed a chunk of the body, it puts that chunk's part of the file in `data`."""

    def __init__(self, boundary: bytes) -> None:
        self.data: deque[bytes] = deque()
        self.files = 0
        self._parts = 0
        self.is_whole = False
        self._in_file = False
        self._name = self._value = b""
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_part_data": self._on_data,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_end": self._on_end,
                },
            )
        except ValueError as exc:
            raise MalformedBodyError("The form's boundary cannot be used.") from exc

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as exc:
            raise MalformedBodyError(
                "The body is not the form that its Content-Type says."
            ) from exc

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise MalformedBodyError(f"The form has more than {_MOST_PARTS} fields.")
        self._name = self._value = self._disposition = b""
        self._in_file = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = _options(self._disposition.decode("latin-1"))
        self._in_file = options.get(b"name") == _FIELD
        if self._in_file:
            self.files += 1
            if self.files > 1:
                detail = "The form has several fields `file`; send one file at a time."
                raise InvalidRequestError(
                    detail, errors=[FieldError(pointer="/file", code="max_items", detail=detail)]
                )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.data.append(bytes(data[start:end]))

    def _on_end(self) -> None:
        self.is_whole = True
