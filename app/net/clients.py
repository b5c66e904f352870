"""Every httpx client is made here: how the gateway speaks HTTP is decided once."""

import asyncio
import ssl
from datetime import timedelta
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


def trusted(*, timeout: timedelta, connections: int, keepalive: timedelta) -> httpx.AsyncClient:
    """Make a client for the operator's own addresses; it sends every request once.

    It may be made outside a running loop. A connection idle for longer than `keepalive` is not
    used again. httpx's own pool looks at all its connections for every request; at 32 of them
    aiohttp's carries eight times as much.
    """

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls(), limit=connections, keepalive_timeout=keepalive.total_seconds()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(tell_when_it_failed,),
            skip_auto_headers=("Content-Type",),  # a POST without a body has no type
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=tls(), client=session),
        timeout=timeout.total_seconds(),
        # Nothing is ever unpacked: a few kilobytes of gzip can hold gigabytes.
        headers={"Accept-Encoding": "identity"},
        # httpx keeps cookies as aiohttp does; this jar lets none in.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,  # a redirected POST is a POST sent twice, the token with it
        trust_env=False,  # no proxy and no .netrc: the operator's address is the one we call
    )


async def tell_when_it_failed(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Put aiohttp's failures into httpx's words: connect errors mean that nothing was sent.

    Left alone, aiohttp repeats a GET whose kept connection broke, and httpx-aiohttp calls every
    broken connection a ConnectTimeout, even one that broke after the body, and lets some of
    aiohttp's errors through. All three are settled by raising httpx's errors from in here.
    """
    if request.method == "POST":
        # A kept connection may have been closed while the loop was busy. Two turns of it, one to
        # hear that and one to act on it, and the pool does not offer that connection.
        await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
        await asyncio.sleep(0)  # noqa: TID251
    try:
        return await send(request)
    except aiohttp.ClientConnectorError as exc:
        raise httpx.ConnectError(str(exc)) from exc
    except aiohttp.ConnectionTimeoutError as exc:  # of the connection, or of the wait for one
        raise httpx.ConnectTimeout(str(exc)) from exc
    except aiohttp.SocketTimeoutError as exc:
        raise httpx.ReadTimeout(str(exc)) from exc
    except aiohttp.ClientResponseError as exc:
        problem = f"not HTTP: {exc.status}"
    except (aiohttp.ClientError, OSError) as exc:
        raise httpx.ReadError(str(exc)) from exc
    # Outside the handler, so that it is not chained: its repr shows our headers, with the token.
    raise httpx.RemoteProtocolError(problem)


@cache
def tls() -> ssl.SSLContext:
    """Share one context: it never changes, and reading the root certificates takes 30 ms."""
    return httpx.create_ssl_context(trust_env=False)
