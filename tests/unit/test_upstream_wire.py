"""Every variant of RunComfy's bodies, as the contract lists them."""

import gzip
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest

from app.upstream.errors import TryLaterError
from app.upstream.messages import clean, said, strings
from app.upstream.wire import (
    CancelOutcome,
    RemoteError,
    RemoteResult,
    RemoteState,
    RemoteStatus,
    decode,
    parse_cancel,
    parse_error_code,
    parse_request_id,
    parse_result,
    parse_status,
)

A = "https://files.runcomfy.net/a.mp4?sig=x"
B = "http://files.runcomfy.net/b.PNG#top"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("in_queue", RemoteState.IN_QUEUE),
        ("in_progress", RemoteState.IN_PROGRESS),
        ("completed", RemoteState.COMPLETED),
        ("COMPLETED ", RemoteState.COMPLETED),
        ("succeeded", RemoteState.SUCCEEDED),
        ("failed", RemoteState.FAILED),
        ("cancelled", RemoteState.CANCELLED),
        ("Canceled", RemoteState.CANCELLED),
        ("pending", RemoteState.IN_PROGRESS),
        ("waiting", RemoteState.IN_PROGRESS),
        ("starting", RemoteState.IN_PROGRESS),
        ("processing", RemoteState.IN_PROGRESS),
        ("brewing", RemoteState.IN_PROGRESS),
    ],
)
def test_a_status_is_read_and_an_unknown_one_is_still_running(
    word: str, state: RemoteState
) -> None:
    assert parse_status({"status": word}) == RemoteStatus(state=state, queue_position=None)


@pytest.mark.parametrize(
    ("position", "read"),
    [(0, 0), (7, 7), (-1, None), (10**40, None), (True, None), ("3", None), (1.5, None)],
)
def test_a_queue_position_is_a_sane_integer_or_nothing(position: Any, read: int | None) -> None:
    status = parse_status({"status": "in_queue", "queue_position": position})
    assert status == RemoteStatus(state=RemoteState.IN_QUEUE, queue_position=read)


def test_an_answer_of_millions_of_values_is_unreadable_but_not_one_of_long_texts() -> None:
    assert decode(b"[" + b"[]," * 3_000_000 + b"[]]") is None
    assert decode(gzip.compress(b"[" + b"[]," * 3_000_000 + b"[]]")) is None
    assert decode(b'{"status": "failed", "input": "' + b"," * 3_000_000 + b'"}') == {
        "status": "failed",
        "input": "," * 3_000_000,
    }


@pytest.mark.parametrize("body", [None, [], "in_queue", 7, {}, {"status": None}, {"status": " "}])
@pytest.mark.parametrize("parse", [parse_status, parse_result, parse_cancel])
def test_a_body_without_a_status_is_unreadable(parse: Any, body: Any) -> None:
    with pytest.raises(TryLaterError):
        parse(body)


@pytest.mark.parametrize("word", ["succeeded", "completed", "Succeeded"])
@pytest.mark.parametrize(
    ("output", "read"),
    [
        ({"video": A}, {"video": A}),
        ({"videos": [A, B]}, {"videos": [A, B]}),
        ({"image": {"url": B}}, {"image": B}),
        ({"images": [{"url": B}, "ftp://no", None]}, {"images": [B]}),
        ({"audio": A, "audios": [A]}, {"audio": A, "audios": [A]}),
        ({"video": A, "seed": 4, "url": B}, {"video": A}),
        ({"url": A}, {"video": A}),
        (A, {"video": A}),
        (B, {"image": B}),
        ("https://x/a.mp3", {"audio": "https://x/a.mp3"}),
        ("https://x/file", {"video": "https://x/file"}),
        ([A, B, A], {"videos": [A, A], "images": [B]}),
        ([{"url": A}], {"videos": [A]}),
        ({"video": "https://x/my film.mp4"}, {"video": "https://x/my film.mp4"}),
    ],
)
def test_an_output_is_read_in_every_shape(word: str, output: Any, read: dict[str, Any]) -> None:
    assert parse_result({"status": word, "output": output, "input": {"image": B}}) == RemoteResult(
        state=RemoteState.SUCCEEDED, output=read, error=None, cost_usd=None
    )


def test_of_outputs_without_end_the_first_thousand_are_kept() -> None:
    result = parse_result({"status": "succeeded", "output": {"videos": [None, *[A] * 5000]}})
    assert result.output == {"videos": [A] * 1000}


def test_of_long_addresses_fewer_outputs_are_kept() -> None:
    """They are read and written whenever their job is."""
    signed, endless = f"https://x/a.png?{'s' * 480}", f"https://x/a.png?{'s' * 8000}"
    output = {"video": endless, "images": [signed] * 5000, "audios": [endless] * 300}
    result = parse_result({"status": "succeeded", "output": output})
    assert result.output == {
        "video": endless,
        "images": [signed] * 1000,
        "audios": [endless] * 65,
    }


@pytest.mark.parametrize(
    "output",
    [
        *(None, {}, [], "", 7, {"other": A}, {"video": ""}, {"videos": [[A]]}),
        *({"video": "file:///etc/passwd"}, {"video": "https://a b"}, {"video": "https://x/\ud800"}),
        f"https://x/{'y' * 9000}",
    ],
)
@pytest.mark.parametrize("word", ["succeeded", "completed"])
def test_a_success_without_any_file_is_a_failure(word: str, output: Any) -> None:
    assert parse_result({"status": word, "output": output, "cost": 1}) == RemoteResult(
        state=RemoteState.FAILED,
        output=None,
        error=RemoteError("no_output", "RunComfy reported success, but no file."),
        cost_usd=Decimal(1),
    )


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ("boom", RemoteError(None, "boom")),
        ({"type": "Nsfw", "message": "flagged"}, RemoteError("Nsfw", "flagged")),
        ({"error": {"message": "deep"}}, RemoteError(None, "deep")),
        ({"detail": [{"loc": ["body", "a"], "msg": "bad"}, "x"]}, RemoteError(None, "a: bad; x")),
        ([{"type": "Filter", "message": "unsafe"}, {"code": 7}], RemoteError(None, "unsafe")),
        ({"code": 7, "input": "private"}, RemoteError(None, "RunComfy gave no reason.")),
        ({"type": 7}, RemoteError(None, "RunComfy gave no reason.")),
        (None, RemoteError(None, "RunComfy gave no reason.")),
        (["a", 7], RemoteError(None, "a")),
    ],
)
def test_an_error_is_read_in_every_shape(error: Any, read: RemoteError) -> None:
    result = parse_result({"status": "failed", "error": error, "output": {"video": A}})
    assert result == RemoteResult(state=RemoteState.FAILED, output=None, error=read, cost_usd=None)


@pytest.mark.parametrize("word", ["succeeded", "completed"])
def test_of_a_success_beside_an_error_the_file_decides(word: str) -> None:
    result = parse_result({"status": word, "error": "boom"})
    assert (result.state, result.error) == (RemoteState.FAILED, RemoteError(None, "boom"))
    result = parse_result({"status": word, "error": "boom", "output": {"video": A}})
    assert (result.state, result.error) == (RemoteState.SUCCEEDED, None)


@pytest.mark.parametrize("word", ["in_queue", "in_progress", "cancelled", "processing"])
def test_a_result_that_is_not_final_holds_nothing(word: str) -> None:
    result = parse_result({"status": word, "output": {"video": A}, "error": "boom"})
    assert (result.output, result.error) == (None, None)


@pytest.mark.parametrize(
    ("cost", "read"),
    [
        (b"0.1", "0.1"),
        (b"2", "2"),
        (b'"0.35"', "0.35"),
        (b"0", "0"),
        (b"0.12345678", "0.123457"),
        (b"null", None),
        (b"-1", None),
        (b"true", None),
        (b"NaN", None),
        (b"Infinity", None),
        (b"1e999999", None),
        (b"1e9999999999999999999", None),
        (b"1e-9999999999999999999", "0"),
        (b'"free"', None),
        (b'{"usd": 1}', None),
    ],
)
def test_a_cost_is_an_exact_sane_amount_or_nothing(cost: bytes, read: str | None) -> None:
    result = parse_result(decode(b'{"status": "failed", "cost": %b}' % cost))
    assert result.cost_usd == (None if read is None else Decimal(read))


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"outcome": "cancelled", "status": "completed"}, CancelOutcome.CANCELLED),
        ({"outcome": "Canceled"}, CancelOutcome.CANCELLED),
        ({"outcome": "cancellation_requested"}, CancelOutcome.CANCELLATION_REQUESTED),
        ({"outcome": "not_cancellable", "status": "cancelled"}, CancelOutcome.NOT_CANCELLABLE),
        ({"status": "cancelled"}, CancelOutcome.CANCELLED),
        ({"status": "canceled", "outcome": None}, CancelOutcome.CANCELLED),
        ({"status": "cancelling"}, CancelOutcome.CANCELLATION_REQUESTED),
    ],
)
def test_a_cancel_is_decided_by_its_outcome(body: Any, outcome: CancelOutcome) -> None:
    assert parse_cancel(body) is outcome


@pytest.mark.parametrize(
    "body", [{"status": "completed"}, {"outcome": "perhaps", "status": "cancelled"}]
)
def test_a_cancel_without_a_known_outcome_is_unreadable(body: Any) -> None:
    with pytest.raises(TryLaterError):
        parse_cancel(body)


@pytest.mark.parametrize("request_id", ["a", "A-b_9", "x" * 128])
def test_a_request_id_is_a_short_name(request_id: str) -> None:
    assert parse_request_id({"request_id": request_id}) == request_id


def test_a_number_names_a_request_by_its_digits() -> None:
    assert parse_request_id({"request_id": 1000017}) == "1000017"


@pytest.mark.parametrize(
    "request_id", ["", "a/b", "a\n", "é", "x" * 129, 10**128, 7.5, True, 0, -7, None, ["a"]]
)
def test_anything_else_is_no_request_id(request_id: Any) -> None:
    assert parse_request_id({"request_id": request_id}) is None


@pytest.mark.parametrize(
    ("code", "read"),
    [
        *((404001, "404001"), ("404001", "404001"), ("NSFW", "NSFW"), ("x" * 99, "x" * 64)),
        *((0, None), ("0", None), ("", None), (None, None), (True, None), ({}, None)),
    ],
)
def test_an_error_code_is_read_as_text(code: Any, read: str | None) -> None:
    assert parse_error_code({"error_code": code}) == read


def test_the_first_key_that_says_something_is_quoted() -> None:
    assert said({"detail": "d", "error": "", "message": {"message": "m"}}) == "m"


def test_a_message_becomes_one_short_line_without_addresses() -> None:
    text = "see\n https://x/?sig=1 and DATA:image/png;base64,AAAA \x00\u202e\ud800now"
    assert clean(text) == "see [address] and [address] now"
    assert clean("no file at x.example/a?n=1&sig=2, /v1/a?=, why? a=b") == (
        "no file at [address] [address] why? a=b"
    )
    assert clean("x" * 600) == "x" * 500
    assert clean("a b", hidden=["", " \n "]) == "a b"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("tail", ["A" * 2**26, "ab " * 2**24, "\x00é " * 2**24])
def test_a_message_of_many_megabytes_holds_up_nobody(tail: str) -> None:
    """Cut into words, on the event loop, it would take a gigabyte and seconds."""
    text = f"cannot open {tail}"
    tracemalloc.start()
    try:
        told = clean(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == clean(text[:2000])
    assert most < 2 * len(text)


def test_what_is_said_of_a_whole_file_is_not_lost_behind_it() -> None:
    file = "A" * 2**26
    assert clean(f"{file} is too large", hidden=[file]) == "[hidden] is too large"


@pytest.mark.parametrize("prompt", ["a private prompt " * 3000, "private" * 7000, "private" * 9000])
def test_no_beginning_of_a_secret_is_left_where_a_long_message_is_cut(prompt: str) -> None:
    assert "private" not in clean(f"{prompt} " * 50, hidden=[prompt])
    assert clean(f"{prompt} is bad" + " and so on" * 2**18, hidden=[prompt]).startswith(
        "[hidden] is bad and so on"
    )


def test_a_place_in_the_input_is_read_as_names_and_numbers_alone() -> None:
    nested: Any = {"private": "prompt"}
    place = ["body", "images", nested, 3, *[0] * 10**6]
    told = said({"detail": [{"loc": place, "msg": "is no picture"}]})
    assert told == "images.3.0.0.0.0.0.0: is no picture"


def test_the_texts_of_an_input_are_found_at_any_depth() -> None:
    deep: Any = "a long prompt"
    for _ in range(5000):
        deep = [{"nested": deep}]
    assert list(strings({"input": deep, "ratio": "16:9", "count": 3})) == ["a long prompt"]


def test_bytes_that_are_no_json_are_none() -> None:
    assert [decode(raw) for raw in (b"", b"<html>", b"\xff\xfe\xfa", b"{", b"[" * 10**6)] == [
        None
    ] * 5


def test_letters_in_no_encoding_hide_no_result() -> None:
    raw = b'{"status": "succeeded", "output": {"video": "https://x/a.mp4"}, "input": "caf\xe9"}'
    assert parse_result(decode(raw)).output == {"video": "https://x/a.mp4"}
