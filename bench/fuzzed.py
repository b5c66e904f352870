"""The parsers that `fuzz.py` feeds: each with real samples, and with what it may raise itself."""

import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Request
from jwt.algorithms import OKPAlgorithm
from PIL import Image

from app.api.body import parse
from app.api.client_tokens import ClientTokenCreate
from app.api.conditions import caller_has
from app.api.content import stored_content
from app.api.job_filters import job_filter, job_page
from app.api.jobs import JobCreate
from app.api.json_body import json_body
from app.api.prefer import preferred_wait
from app.api.uploads import uploaded_bytes
from app.api.webhooks import EndpointCreate
from app.auth.credentials import ClientCredential, KeyCredential
from app.auth.models import checked_user_id
from app.auth.oidc.errors import IdentityProviderUnavailableError
from app.auth.oidc.keys import IssuerKeys
from app.auth.oidc.verifier import OidcConfig, OidcVerifier
from app.auth.operators import parse_admin_tokens
from app.catalogue.entries import read_entry
from app.catalogue.errors import BrokenModelError
from app.catalogue.media import MediaCheck
from app.catalogue.service import Catalogue
from app.core.clock import SystemClock
from app.core.errors import ProblemError
from app.core.media_types import sniff
from app.events.cursor import Cursor
from app.jobs.fingerprint import fingerprint
from app.media.probe import MediaFile
from app.media.sources import DataUri
from app.net.addresses import is_forbidden_always, is_public, literal_ip
from app.net.errors import OutwardError
from app.net.origins import origin_of
from app.net.reach import Reach
from app.net.remote_file import RemoteFiles
from app.net.urls import is_reachable, url_flaw
from app.storage.mp4 import look
from app.upstream.classify import Answer, accepted_request_id, readable_body, retry_after
from app.upstream.errors import UpstreamError
from app.upstream.wire import decode, parse_cancel, parse_page, parse_result, parse_status
from app.webhooks.sender import WebhookSender
from tests.support.pictures import data_uri, jpeg, tiff

_CLOCK = SystemClock()
_ISSUER, _AUDIENCE = "https://issuer.example", "gateway"
_SEEDANCE = "bytedance/seedance-1-0/pro/image-to-video"
_URLS = (
    *("https://example.com/a.png?b=c", "https://203.0.113.7:443/", "https://[2001:db8::1]/x"),
    *("https://bücher.example./é", "https://user:pw@example.com/", "http://0x7f.1/", "https://1.1"),
    *("https://[::ffff:169.254.169.254]/", "https://①②⑦.0.0.1/", "https://xn--bcher-kva.example"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """`own` is what it raises by design; anything else is a finding."""

    name: str
    samples: Sequence[bytes]
    read: Callable[[bytes], Awaitable[Any]]
    own: tuple[type[Exception], ...] = ()


def parsers() -> Sequence[Parser]:
    return [*_upstream(), *_catalogue(), *_media(), *_credentials(), *_requests(), *_addresses()]


def _upstream() -> Sequence[Parser]:
    request = {"request_id": "a-1", "status_url": "https://x/s", "result_url": "https://x/r"}
    film = "https://files.runcomfy.net/a.mp4"
    answers = (
        request | {"status": "in_queue", "queue_position": 3},
        request | {"status": "completed", "outcome": "cancelled"},
        request | {"status": "succeeded", "output": {"video": film, "images": [film]}, "cost": 0.5},
        request | {"status": "failed", "error": {"type": "e", "message": f"no {film}"}},
        {"status": "succeeded", "output": [{"url": film}], "finished_at": "2026-11-22T10:00:00Z"},
        {"error_code": 400001, "error_message": "no", "detail": [{"loc": ["a", 1], "msg": "m"}]},
        {"models": [{"model_id": "a/b"}], "total": 1},
    )

    async def answer(data: bytes) -> None:
        body = decode(data)
        for read in (parse_status, parse_result, parse_cancel, parse_page):
            with suppress(UpstreamError):
                read(body)
        for status in (200, 404, 429, 502):
            came = Answer(status=status, body=body, retry_after=None)
            with suppress(UpstreamError):
                accepted_request_id(came, retry_statuses=frozenset({429}), hidden=["https://x"])
            with suppress(UpstreamError):
                readable_body(came, hidden=["https://x"])

    async def wait(data: bytes) -> None:
        text = data.decode("latin-1")
        header, _, date = text.partition("|")
        retry_after(header, date=date)

    async def receiver(data: bytes) -> None:
        def respond(_: httpx.Request) -> httpx.Response:
            return httpx.Response(503, headers=[(b"Retry-After", data)], stream=_Stream(data))

        async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
            sender = WebhookSender(client=client, clock=_CLOCK)
            await sender.post("https://example.com/", body="{}", headers={})

    dates = (b"Sun, 22 Nov 2026 10:00:00 GMT", b"120", b"Sunday, 22-Nov-26 10:00:00 -0800")
    return [
        Parser(name="upstream answers", samples=_documents(*answers), read=answer),
        Parser(
            name="upstream Retry-After",
            samples=[b"%b|%b" % (one, other) for one in dates for other in dates],
            read=wait,
        ),
        Parser(name="webhook receivers", samples=dates, read=receiver),
    ]


def _catalogue() -> Sequence[Parser]:
    models = Catalogue.bundled().list()
    seedance = next(model for model in models if model.model_id == _SEEDANCE)
    entries = [
        {
            "model_id": model.model_id,
            "display_name": model.display_name,
            "categories": list(model.listing.categories),
            "kind": model.listing.kind,
            "base_price_usd": 0.05,
            "price_unit": "second",
            "model_url": "https://example.com/m",
            "input_schema": model.input_schema,
        }
        for model in models[:40]
    ]
    good: dict[str, Any] = {
        "prompt": "a walk",
        "first_frame_image_url": _URLS[0],
        "duration": 5,
        "seed": 7,
    }
    inputs = [good, good | {"first_frame_image_url": data_uri(jpeg(40, 30))}, {"prompt": ["a"]}]

    async def entry(data: bytes) -> None:
        model = read_entry(decode(data))
        for given in inputs:
            model.check(given)

    async def job_input(data: bytes) -> None:
        given = await json_body(_request(body=data))
        fingerprint("POST /v1/jobs", given)
        if isinstance(given, dict):
            for found in seedance.check(given).media:
                await _look_inside(found)

    return [
        Parser(
            name="catalogue entries",
            samples=_documents(*entries),
            read=entry,
            own=(BrokenModelError,),
        ),
        Parser(name="job inputs", samples=_documents(*inputs), read=job_input, own=(ProblemError,)),
    ]


async def _look_inside(check: MediaCheck) -> None:
    if check.value[:5].lower() == "data:":
        file = MediaFile(DataUri(check.value))
        await file.format()
        await file.dimensions()


def _media() -> Sequence[Parser]:
    pictures = [jpeg(800, 600), jpeg(8, 6, before=70_000), tiff(80, 60, before=5000)]
    noise = Image.effect_noise((70, 50), 80).convert("RGB")
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        written = io.BytesIO()
        noise.save(written, kind)
        pictures.append(written.getvalue())

    async def picture(data: bytes) -> None:
        sniff(data)
        file = MediaFile(_Bytes(data))
        await file.format()
        await file.is_empty()
        await file.dimensions()

    async def film(data: bytes) -> None:
        async def read(start: int, stop: int) -> bytes:
            assert 0 <= start <= len(data), "beyond the file"
            return data[start:stop]

        await look(read, size=len(data))

    async def remote(data: bytes) -> None:
        head, _, body = data.partition(b"\n\n")
        status, *lines = head.split(b"\n")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]

        def respond(_: httpx.Request) -> httpx.Response:
            given = [(name, value) for name, value in headers if name]
            code = int(status) if status in _STATUSES else 206
            return httpx.Response(code, headers=given, stream=_Stream(body))

        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client,
            RemoteFiles(client).open("https://example.com/a.png") as file,
        ):
            found = MediaFile(file)
            await found.format()
            await found.dimensions()
            await file.measure(most=100_000)

    whole = pictures[3]
    lines = (
        b"206\nContent-Range: bytes 0-%d/%d\nETag: 1" % (len(whole) - 1, len(whole)),
        b"200\nContent-Length: %d\nLast-Modified: now" % len(whole),
        b"206\nContent-Range: bytes 0-63/*",
        b"302\nLocation: https://example.com/b?c#d",
        b"416\nContent-Range: bytes */0",
    )
    return [
        Parser(name="pictures", samples=pictures, read=picture),
        Parser(name="films", samples=[_FILM, _FILM[24:] + _FILM[:24]], read=film),
        Parser(
            name="media servers",
            samples=[line + b"\n\n" + whole for line in lines],
            read=remote,
            own=(OutwardError,),
        ),
    ]


_STATUSES = frozenset(b"%d" % status for status in range(200, 600))


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    async def load(self, offset: int) -> bytes:
        assert offset >= 0, "before the file"
        return self._content[offset : offset + 4096]


class _Stream(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> Any:
        for at in range(0, len(self._content), 4096):
            yield self._content[at : at + 4096]


def _box(kind: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return (len(body) + 8).to_bytes(4, "big") + kind + body


_FILM = b"".join(
    (
        _box(b"ftyp", b"isom\0\0\2\0"),
        _box(b"free", bytes(8)),
        _box(
            b"moov",
            _box(b"mvhd", bytes(12), (1000).to_bytes(4, "big"), (5042).to_bytes(4, "big")),
            _box(
                b"trak",
                _box(
                    b"mdia",
                    _box(b"hdlr", bytes(8), b"vide", bytes(13)),
                    _box(
                        b"minf",
                        _box(b"stbl", _box(b"stsd", bytes(4), b"\0\0\0\1", _box(b"avc1"))),
                    ),
                ),
            ),
            _box(b"mvex", _box(b"mehd", bytes(8))),
        ),
        _box(b"mdat", bytes(64)),
    )
)


def _credentials() -> Sequence[Parser]:
    key = Ed25519PrivateKey.generate()
    jwk = json.loads(OKPAlgorithm.to_jwk(key.public_key())) | {"kid": "k1", "use": "sig"}
    at = int(datetime.now(UTC).timestamp())  # noqa: TID251 - real tokens have real times
    claims = {"iss": _ISSUER, "aud": [_AUDIENCE], "sub": "u|1", "iat": at, "exp": at + 10**6}
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "k1"})
    verifier = OidcVerifier(
        OidcConfig(issuer=_ISSUER, audience=_AUDIENCE, plan_claim="tier"),
        keys=_keys({"keys": [jwk]}),
        clock=_CLOCK,
    )

    async def sent(data: bytes) -> None:
        await verifier.verify(data.decode("latin-1"))

    async def header(data: bytes) -> None:
        rest = token.partition(".")[2]
        await verifier.verify(f"{_base64(data)}.{rest}")

    async def claimed(data: bytes) -> None:
        signed = jwt.api_jws.encode(data, key, algorithm="EdDSA", headers={"kid": "k1"})
        await verifier.verify(signed)

    async def key_set(data: bytes) -> None:
        keys = _keys(data)
        if await keys.refresh():
            await keys.find("k1", algorithm="RS256")

    async def admin(data: bytes) -> None:
        parse_admin_tokens(data.decode("utf-8", "replace"))

    async def bearer(data: bytes) -> None:
        text = data.decode("latin-1")
        KeyCredential.parse(text)
        ClientCredential.parse(text)
        checked_user_id(text)

    rsa = {"kty": "RSA", "n": _base64(b"\xc3" * 256), "e": "AQAB", "kid": "k2", "alg": "RS256"}
    curve = {"kty": "EC", "crv": "P-256", "x": _base64(b"x" * 32), "y": _base64(b"y" * 32)}
    own = (ProblemError,)
    return [
        Parser(name="OIDC tokens", samples=[token.encode()], read=sent, own=own),
        Parser(
            name="OIDC headers",
            samples=_documents({"alg": "EdDSA", "kid": "k1", "typ": "JWT"}, {"alg": "none"}),
            read=header,
            own=own,
        ),
        Parser(name="OIDC claims", samples=_documents(claims), read=claimed, own=own),
        Parser(
            name="OIDC key sets",
            samples=_documents({"keys": [jwk, rsa, curve]}),
            read=key_set,
            own=(IdentityProviderUnavailableError,),
        ),
        Parser(
            name="admin tokens",
            samples=[b"ops:" + b"a" * 32 + b", on-call:" + b"b" * 40, b"c" * 32],
            read=admin,
            own=(ValueError,),
        ),
        Parser(
            name="keys and user ids",
            samples=[
                str(kind.make("x_" + "0" * 26)).encode()
                for kind in (KeyCredential, ClientCredential)
            ]
            + [b"rcg_01m823xe2bewaaqepnk4s10yx9_" + b"A" * 43, b"shop-7@example.com"],
            read=bearer,
            own=own,
        ),
    ]


def _keys(document: Mapping[str, Any] | bytes) -> IssuerKeys:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/.well-known/"):
            found = {"issuer": _ISSUER, "jwks_uri": f"{_ISSUER}/keys"}
            return httpx.Response(200, stream=_Stream(json.dumps(found).encode()))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return httpx.Response(200, stream=_Stream(body))

    client = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    return IssuerKeys(issuer=_ISSUER, client=client, clock=_CLOCK)


def _requests() -> Sequence[Parser]:
    read_filter = job_filter()

    async def body(data: bytes) -> None:
        value = await json_body(_request(body=data))
        for kind in (JobCreate, ClientTokenCreate, EndpointCreate):
            with suppress(ProblemError):
                parse(kind, value)

    async def form(data: bytes) -> None:
        media_type, _, content = data.partition(b"\n")
        async for _ in uploaded_bytes(_request((b"content-type", media_type), body=content)):
            pass

    async def ranges(data: bytes) -> None:
        asked = _request(*((name, data) for name in (b"range", b"if-range", b"if-none-match")))
        caller_has(asked, '"a"')
        only = _request((b"range", data))
        stored_content(only, _nothing, size=1000, sha256="a" * 64, media_type="a/b", name="a")

    async def prefer(data: bytes) -> None:
        await preferred_wait(_request((b"prefer", data)))

    async def cursor(data: bytes) -> None:
        read = Cursor.parse(data.decode("latin-1"))
        assert read is None or Cursor.parse(str(read)) == read, "reads otherwise"

    async def page(data: bytes) -> None:
        await job_page(cursor=data.decode("utf-8", "replace"))

    async def query(data: bytes) -> None:
        asked = _request(query=data)
        given = {name: asked.query_params.get(name) for name in _FILTERS}
        await read_filter(asked, **given)

    job = {
        "model": _SEEDANCE,
        "input": {"prompt": "a", "first_frame_image_url": _URLS[0]},
        "metadata": {"order": "7"},
        "webhook_url": "https://example.com/hook",
        "priority": "high",
        "start_within_seconds": 60,
    }
    token = {"scopes": ["jobs:read"], "max_jobs": 3, "max_cost_usd": "2.50", "expires_in": 60}
    part = b'--b\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\nbytes\r\n'
    forms = [
        b"multipart/form-data; boundary=b\n" + part % b"other" + part % b"file" + b"--b--\r\n",
        b"multipart/form-data; boundary*0=b; charset*=utf-8''x\n" + part % b"file" + b"--b--",
        b"image/png\nbytes",
    ]
    own = (ProblemError,)
    return [
        Parser(
            name="JSON bodies",
            samples=_documents(job, token, {"url": _URLS[0], "events": ["job.completed"]}),
            read=body,
            own=own,
        ),
        Parser(name="upload forms", samples=forms, read=form, own=own),
        Parser(
            name="Range and conditions",
            samples=[b"bytes=0-499", b"bytes=-5", b"bytes=9-", b'W/"a", "b"', b"*"],
            read=ranges,
            own=own,
        ),
        Parser(
            name="Prefer",
            samples=[b"wait=20", b'respond-async, wait="5"; x=y, a="b\\"c"'],
            read=prefer,
        ),
        Parser(name="event cursors", samples=[b"1f3.1f4-2a.2b-7", b"0-7-12", b"ff"], read=cursor),
        Parser(
            name="page cursors",
            samples=[_base64(b"job_01m823xe2bewaaqepnk4s10yx9").encode()],
            read=page,
            own=own,
        ),
        Parser(
            name="job filters",
            samples=[
                b"status=pending,failed&model=a/b&metadata[k]=v&limit=5",
                b"created_after=2026-11-22T10:00:00Z&created_before=2026-11-22T10:00:00%2B01:00",
            ],
            read=query,
            own=own,
        ),
    ]


_FILTERS = ("status", "model", "created_after", "created_before")


def _nothing(_start: int, _stop: int) -> Any:
    return _Stream(b"").__aiter__()


def _addresses() -> Sequence[Parser]:
    async def url(data: bytes) -> None:
        text = data.decode("utf-8", "surrogatepass")
        is_reachable(text)
        with suppress(ValueError):
            origin_of(text)
        for opened in (False, True):
            if url_flaw(text, reach=Reach(private=opened)) is not None:
                continue
            # What the guard will connect to, which is what counts.
            ip = literal_ip(httpx.URL(text).raw_host.decode("ascii"))
            assert ip is None or not is_forbidden_always(ip), "forbidden"
            assert ip is None or opened or is_public(ip), "not public"

    return [
        Parser(
            name="URLs",
            samples=[each.encode() for each in _URLS],
            read=url,
            own=(UnicodeDecodeError,),
        )
    ]


def _request(*headers: tuple[bytes, bytes], body: bytes = b"", query: bytes = b"") -> Request:
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": list(headers),
        "query_string": query,
    }
    return Request(scope, receive)


def _documents(*values: Any) -> Sequence[bytes]:
    return [json.dumps(value, default=_plain).encode() for value in values]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else dict(value)


def _base64(data: bytes) -> str:
    return jwt.utils.base64url_encode(data).decode()
