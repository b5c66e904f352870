"""Nothing that a client sends is answered by a 5xx, and every refusal has its proper shape."""

import copy
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.asgi import send_raw
from tests.support.gateway import SEEDANCE, Gateway

pytestmark = pytest.mark.either_database

GOOD: dict[str, Any] = {
    "model": SEEDANCE,
    "input": {
        "prompt": "a walk",
        "first_frame_image_url": "https://example.com/a.png",
        "duration": 5,
        "resolution": "480p",
    },
    "metadata": {"order": "4711"},
}

texts = st.text() | st.text(st.characters(codec="ascii"), max_size=300) | st.just("\0")
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


@st.composite
def nearly_good(draw: st.DrawFn) -> dict[str, Any]:
    """Change a good request in one place, where a wholly arbitrary one would be refused early."""
    body = copy.deepcopy(GOOD)
    place = draw(st.sampled_from([body, body["input"], body["metadata"]]))
    name = draw(st.sampled_from(sorted(place)) | texts)
    place[name] = draw(json_values)
    return body


bodies = (
    nearly_good().map(lambda body: json.dumps(body).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-16"))
    | st.binary()
    | st.integers(1, 5000).map(lambda depth: b"[" * depth)
    | st.integers(1, 5000).map(lambda digits: b"1" * digits)
)
ids = st.sampled_from(["REAL", "job_01m823xe2bewaaqepnk4s10yx9", "validate", SEEDANCE]) | texts
numbers = st.integers().map(str) | texts
paths = st.one_of(
    st.sampled_from(["/v1/jobs", "/v1/jobs/validate", "/v1/models", "/v1/models/categories"]),
    st.sampled_from(["/healthz", "/readyz", "/openapi.json", "/", "//", "/v1/jobs/"]),
    st.builds("/v1/jobs/{}".format, ids),
    st.builds("/v1/jobs/{}/cancel".format, ids),
    st.builds("/v1/jobs/{}/outputs/{}".format, ids, numbers),
    st.builds("/v1/models/{}".format, ids),
    st.builds("/v1/requests/{}/{}".format, ids, st.sampled_from(["status", "result", "cancel"])),
    texts.map("/{}".format),
)
names = st.sampled_from(
    [
        *("status", "model", "created_after", "created_before", "limit", "cursor", "offset"),
        *("metadata[order]", "metadata[]", "search", "category", "kind", "include_schema"),
        *("expires", "signature"),
    ]
)
given_values = texts | st.sampled_from(
    [
        *("1", "-1", "101", "1e3", "null", "pending,failed", "9999-12-31T23:59:59-23:59"),
        *("0001-01-01T00:00:00+14:00", "am9i", "true"),
    ]
)
queries = (
    st.lists(st.tuples(names | texts, given_values | numbers), max_size=3).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    )
    | st.binary()
)
header_names = st.sampled_from(
    [
        *(b"content-type", b"content-length", b"idempotency-key", b"if-none-match", b"accept"),
        *(b"x-request-id", b"range", b"prefer", b"cookie", b"host", b"expect", b"traceparent"),
    ]
)
headers = st.lists(st.tuples(header_names, st.binary(max_size=300)), max_size=3)
methods = st.sampled_from(["GET", "POST", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "X"])


@settings(
    max_examples=settings().max_examples * 4,
    # One gateway meets them all, as in life.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=methods,
    path=paths,
    query=st.just(b"") | queries,
    more=st.just([]) | headers,
    body=st.just(b"") | bodies,
    key=st.just("REAL") | texts,
)
async def test_no_request_is_a_server_error(
    gateway: Gateway,
    method: str,
    path: str,
    query: bytes,
    more: list[tuple[bytes, bytes]],
    body: bytes,
    key: str,
) -> None:
    if "REAL" in path:
        path = path.replace("REAL", (await gateway.submit())["id"])
    credential = gateway.http.headers["Authorization"].encode()
    if key != "REAL":
        credential = b"Bearer " + key.encode("utf-8", "surrogatepass")
    answer = await send_raw(
        gateway.app,
        method,
        path,
        query=query,
        headers=[(b"authorization", credential), *more],
        body=body,
    )
    assert answer.status_code < 500, answer.text
    assert answer.headers["X-Request-Id"]
    if answer.status_code >= 400 and method != "HEAD":
        told = answer.json()
        if path == "/v1/models" or path.startswith(("/v1/models/", "/v1/requests/")):
            assert isinstance(told["error_code"], int)
            assert told["error_message"]
        else:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert told["status"] == answer.status_code
