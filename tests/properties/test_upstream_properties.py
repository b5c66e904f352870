"""Whatever RunComfy answers, the wire is read or refused, and never breaks the gateway."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.classify import Answer, accepted_request_id, readable_body, retry_after
from app.upstream.errors import TryLaterError, UpstreamError
from app.upstream.messages import LONGEST
from app.upstream.wire import RemoteState, decode, parse_cancel, parse_result, parse_status

WORDS = [*map(str, RemoteState), "canceled", "pending", "not_cancellable", "cancellation_requested"]
KEYS = [
    *("request_id", "status", "outcome", "output", "error", "cost", "queue_position", "url"),
    *("error_code", "error_message", "message", "detail", "loc", "msg", "type", "video", "images"),
]

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*WORDS, "https://x.invalid/a.mp4", 404001, 429001, "0.5", 0.5])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(KEYS), values) | values


@pytest.mark.parametrize("parse", [parse_status, parse_result, parse_cancel])
@given(body=bodies)
def test_no_body_breaks_the_parsers(parse: Callable[[Any], Any], body: Any) -> None:
    with suppress(UpstreamError):
        parse(body)


@given(body=bodies)
def test_a_result_holds_just_what_its_state_promises(body: Any) -> None:
    with suppress(UpstreamError):
        result = parse_result(body)
        assert (result.output is not None) == (result.state is RemoteState.SUCCEEDED)
        assert (result.error is not None) == (result.state is RemoteState.FAILED)
        assert result.state is not RemoteState.COMPLETED
        json.dumps(result.output, ensure_ascii=False).encode()
        if result.error:
            assert result.error.message.encode()


def sorted_submit(answer: Answer, *, hidden: str) -> UpstreamError | None:
    try:
        accepted_request_id(answer, retry_statuses=frozenset({429}), hidden=[hidden])
    except UpstreamError as error:
        return error
    return None


def sorted_read(answer: Answer, *, hidden: str) -> UpstreamError | None:
    try:
        readable_body(answer, hidden=[hidden])
    except UpstreamError as error:
        return error
    return None


@pytest.mark.parametrize("sort", [sorted_submit, sorted_read])
@given(status=st.integers(100, 599), body=bodies, secret=st.text(min_size=8))
def test_every_error_is_one_short_printable_line(
    sort: Callable[..., UpstreamError | None], status: int, body: Any, secret: str
) -> None:
    error = sort(Answer(status=status, body=body, retry_after=None), hidden=secret)
    if error:
        assert 0 < len(error.message) <= LONGEST
        assert error.message.isprintable()


@given(status=st.integers(100, 599), body=bodies)
def test_only_a_429_without_an_id_lets_a_submit_be_repeated(status: int, body: Any) -> None:
    answer = Answer(status=status, body=body, retry_after=None)
    error = sorted_submit(answer, hidden="")
    assert not error or not isinstance(error, TryLaterError) or answer.meaning == 429


@given(raw=st.binary())
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    decode(raw)


@given(header=st.none() | st.text(), date=st.none() | st.text())
def test_no_header_breaks_the_wait(header: str | None, date: str | None) -> None:
    retry_after(header, date=date)
