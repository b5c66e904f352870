"""Addresses that clients name, against real listeners: what is refused connects nowhere."""

# ruff: noqa: RUF001 - look-alike characters are what is tested

import asyncio
import gzip
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address, ip_network

import httpx
import pytest

from app.net.errors import (
    AddressRefusedError,
    NoSuchHostError,
    OutwardError,
    RedirectedTooOftenError,
    TooSlowError,
    UnreachableError,
)
from app.net.guard import guarded, opened, read_at_most
from app.net.reach import PUBLIC, Reach
from app.net.resolver import Resolver, SystemResolver
from app.net.urls import url_flaw
from tests.support.network import Names, certified, counting_port, watched_connects
from tests.support.wire_server import Line, answer, answers, full_backlog, refused_port, wire_server

_DEADLINE = timedelta(seconds=5)
_ELSEWHERE = Reach(networks=(ip_network("198.18.7.0/24"),))  # http and any port, and yet not here
_HERE = Reach(networks=(ip_network("127.0.0.1/32"),))
_PRIVATE = Reach(private=True)

TRICKS = [
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0177.1"),
    *("2130706433", "017700000001", "0x7f000001", "0X7F.0x0.0x0.0x1", "0x7f.1", "00000177.0.1"),
    *("127.65535", "127.0.0.2", "0", "0.0.0.0", "0x0", "00", "0.0", "[::]", "[::1]", "[0:0::1]"),
    *("[0000:0000:0000:0000:0000:0000:0000:0001]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]"),
    *("[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:0:127.0.0.1]"),
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[2002:7f00:0001::1]", "[2001:0:7f00:1::]", "[2001::80ff:fffe]", "[fe80::1%25lo]"),
    *("[fe80::1%lo]", "[::1%25lo]", "[::1%lo]", "[fec0::1]", "[ff02::1]", "[::1.]", "[::1]."),
    *("[v1.::1]", "[localhost]", "[127.0.0.1]", "１２７.０.０.１", "127。0。0。1", "127．0．0．1"),
    *("127｡0｡0｡1", "①②⑦.⓪.⓪.①", "127.0.0.¹", "𝟙𝟚𝟟.0.0.1", "12\u00ad7.0.0.1", "127\ufe0f.0.0.1"),
    *("%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1%00.example.com", "%6cocalhost"),
    *("localhost", "LOCALHOST", "LocalHost.", "localhost.localdomain", "ip6-localhost"),
    *("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "local\u00adhost", "ｌｏｃａｌｈｏｓｔ", "127.0.0.1\u200b", "a@127.0.0.1"),
    *("example.com@127.0.0.1", "example.com:443@127.0.0.1", "@127.0.0.1", "a:b@localhost"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]"),
    *("metadata.google.internal", "100.100.100.200", "10.0.0.1", "192.168.0.1", "172.16.0.1"),
    *("224.0.0.1", "255.255.255.255", "100.64.0.1", "[fd00:ec2::254]", "[fc00::1]", "-1", "1e9"),
    *("localhost\ufe0f", "a.localhost", "printer.local", "printer。local", "db.internal"),
    *("nas.home.arpa", "intranet", "1.2.3.4.5", "256.256.256.256", "4294967297", "example.0x1"),
    *("[2606:4700:4700::1111%25eth0]", "[v1.example.com]", "[example.com]", "::1"),
]
INWARD = ["public.example", "mixed.example", "sixth.example", "mapped.example", "nat64.example"]
NAMES = {
    "localhost": ["127.0.0.1"],
    "LOCALHOST": ["127.0.0.1"],
    "localhost_localdomain": ["127.0.0.1"],
    "ip6-localhost": ["::1"],
    "public_example": ["127.0.0.1"],
    "mixed_example": ["198.18.7.1", "127.0.0.1"],
    "sixth_example": ["198.18.7.1", "::1"],
    "mapped_example": ["::ffff:127.0.0.1"],
    "nat64_example": ["64:ff9b::7f00:1"],
}


async def fetch(
    url: str,
    *,
    reach: Reach,
    resolver: Resolver | None = None,
    deadline: timedelta = _DEADLINE,
    redirects: int = 3,
    most: int = 1000,
) -> tuple[int, bytes]:
    async with (
        guarded(deadline=deadline, reach=reach, resolver=resolver or Names()) as client,
        opened(client, client.build_request("GET", url), redirects=redirects) as response,
    ):
        return response.status_code, await read_at_most(response, most)


@pytest.mark.parametrize("host", TRICKS)
def test_address_tricks_are_seen_before_anything_is_looked_up(host: str) -> None:
    assert url_flaw(f"https://{host}/a.png") is not None


async def test_address_tricks_connect_nowhere() -> None:
    names = Names(**{name: [answer_] for name, answer_ in NAMES.items()})
    async with counting_port() as port:
        with watched_connects() as connects:
            for host in [*TRICKS, *INWARD]:
                for start, reach in [
                    (f"http://{host}:{port.number}", _ELSEWHERE),
                    (f"https://{host}:{port.number}", _ELSEWHERE),
                    (f"https://{host}:{port.number}", PUBLIC),
                    (f"https://{host}", PUBLIC),
                    (f"https://{host}:", PUBLIC),
                    (f"https://{host}:443", PUBLIC),
                    (f"http://{host}", PUBLIC),
                ]:
                    with pytest.raises((OutwardError, httpx.InvalidURL)):
                        await fetch(f"{start}/a.png", reach=reach, resolver=names)
        assert connects == []
        assert port.connections == 0


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"],
)
async def test_the_same_addresses_are_reached_where_private_ones_are_allowed(host: str) -> None:
    async with counting_port() as port:
        url = f"http://{host}:{port.number}/a.png"
        assert url_flaw(url, reach=_PRIVATE) is None
        assert await fetch(url, reach=_PRIVATE, resolver=Names(localhost=[["127.0.0.1"]])) == (
            204,
            b"",
        )
        assert port.connections == 1


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "[64:ff9b::7f00:1]"]
)
@pytest.mark.parametrize("named", [True, False])
async def test_nothing_opens_link_local_and_metadata_addresses(host: str, *, named: bool) -> None:
    wide = Reach(private=True, networks=(ip_network("0.0.0.0/0"), ip_network("fe80::/10")))
    names = Names(name_example=[[host.strip("[]")]])
    with watched_connects() as connects, pytest.raises(AddressRefusedError):
        await fetch(f"http://{'name.example' if named else host}/", reach=wide, resolver=names)
    assert connects == []


async def test_network_is_opened_for_its_own_addresses_alone() -> None:
    async with wire_server(answers(answer(200, raw=b"hello"))) as server:
        names = Names(hooks_internal=[["127.0.0.1"]], other_internal=[["127.0.0.2"]])
        url = f"http://hooks.internal:{server.port}/"
        assert url_flaw(url) is not None
        assert url_flaw(url, reach=_HERE) is None
        assert await fetch(url, reach=_HERE, resolver=names) == (200, b"hello")
        for refused in (
            f"http://other.internal:{server.port}/",
            f"http://127.0.0.2:{server.port}/",
            f"http://[::1]:{server.port}/",
            f"https://1.1.1.1:{server.port}/",
            "http://1.1.1.1/",
        ):
            with pytest.raises(AddressRefusedError):
                await fetch(refused, reach=_HERE, resolver=names)
        assert server.connections == 1


def test_public_address_takes_https_on_its_own_port_alone() -> None:
    ip = ip_address("1.1.1.1")
    for reach in (PUBLIC, _HERE):
        assert reach.admits(ip, scheme="https", port=443)
        assert reach.admits(ip, scheme="https", port=None)
        assert not reach.admits(ip, scheme="https", port=8443)
        assert not reach.admits(ip, scheme="http", port=443)
    assert _PRIVATE.admits(ip, scheme="http", port=8080)


async def test_name_that_changes_its_address_is_looked_up_once() -> None:
    async with wire_server(answers(answer(200, raw=b"hello"))) as server:
        turning = Names(fickle_example=[["127.0.0.1"], ["127.0.0.2"]])
        url = f"http://fickle.example:{server.port}/"
        with watched_connects() as connects:
            assert await fetch(url, reach=_HERE, resolver=turning) == (200, b"hello")
        assert turning.asked == ["fickle.example"]
        assert connects == ["127.0.0.1"]
        # The second look-up, at the second request, is judged as the first was.
        with watched_connects() as connects, pytest.raises(AddressRefusedError):
            await fetch(url, reach=_HERE, resolver=turning)
        assert connects == []


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "//169.254.169.254/",
        "http://2852039166/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://127.0.0.2:{port}/",
        "http://127.2:{port}/",
        "http://[::1]:{port}/",
        "https://1.1.1.1:{port}/",
        "http://1.1.1.1/",
        "http://private.example:{port}/",
        "http://user:word@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/",
        "http://\x00/",
        "http://[/",
        "mailto:nobody",
        ":https://[",
        "http://127.0.0.1:99999/",
        "http://xn--a:{port}/",
        "http://\u00ff/",
        "https://①②⑦.⓪.⓪.①/",
    ],
)
async def test_redirect_is_judged_as_the_first_address_was(location: str) -> None:
    names = Names(private_example=[["127.0.0.2"]])
    async with counting_port() as port:

        async def redirect(line: Line) -> None:
            await line.request()
            target = location.format(port=port.number).encode()
            await line.send(b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\n\r\n")

        async with wire_server(redirect) as server:
            with watched_connects() as connects, pytest.raises(OutwardError):
                await fetch(server.url, reach=_HERE, resolver=names)
            assert connects == ["127.0.0.1"]
        assert port.connections == 0


async def test_a_url_need_not_name_the_port_of_its_scheme() -> None:
    nobody = Reach(networks=(ip_network("127.9.9.9/32"),))
    with watched_connects() as connects, suppress(OutwardError):
        await fetch("http://127.9.9.9/", reach=nobody)
    assert connects == ["127.9.9.9"]


async def test_redirect_from_https_to_http_is_refused_where_nothing_opens_http() -> None:
    assert PUBLIC.flaw(scheme="http", host="example.com", port=None) == "must be an https:// URL"
    with watched_connects() as connects, pytest.raises(AddressRefusedError):
        await fetch("http://example.com/", reach=PUBLIC, resolver=Names(example_com=[["1.1.1.1"]]))
    assert connects == []


async def test_redirects_are_followed_so_far_and_no_further() -> None:
    def to(path: str) -> bytes:
        return answer(302, raw=b"away", Location=path)

    async with wire_server(
        answers(to("/2")), answers(to("/3")), answers(to("/4")), answers(answer(200, raw=b"here"))
    ) as server:
        assert await fetch(server.url, reach=_HERE) == (200, b"here")
        assert [each.target for each in server.received] == ["/", "/2", "/3", "/4"]
    async with wire_server(answers(to("/again"))) as endless:
        with pytest.raises(RedirectedTooOftenError):
            await fetch(endless.url, reach=_HERE)
        assert endless.connections == 4
    async with wire_server(answers(to("/again"))) as server:
        async with guarded(deadline=_DEADLINE, reach=_HERE, resolver=Names()) as client:
            hook = await client.post(server.url, content=b"{}")
        assert (hook.status_code, server.connections) == (302, 1)


@pytest.mark.parametrize("host", ["name.example", "name.example.", "NAME.example"])
async def test_certificate_host_and_server_name_are_those_of_the_name(host: str) -> None:
    ours, trusting = certified("name.example")
    asked: list[str] = []
    ours.sni_callback = lambda _socket, name, _context: asked.append(str(name))
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(200, raw=b"secret"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
    port = server.sockets[0].getsockname()[1]
    names = Names(name_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    async with (
        server,
        guarded(deadline=_DEADLINE, reach=_HERE, resolver=names, context=trusting) as client,
    ):
        fine = await client.get(f"https://{host}:{port}/")
        assert (fine.content, asked) == (b"secret", ["name.example"])
        assert f"host: {host.lower()}:{port}" in heads[0].decode().lower()
        with pytest.raises(UnreachableError):
            await client.get(f"https://other.example:{port}/")
    assert len(heads) == 1


async def test_proxies_and_passwords_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    async with counting_port() as proxy, wire_server(answers(answer(200, raw=b"x"))) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.2:{proxy.number}")
        netrc = os.path.join(tmp_path, "netrc")  # noqa: PTH118
        with open(netrc, "w") as file:  # noqa: PTH123, ASYNC230
            file.write("default login me password hunter2\n")
        monkeypatch.setenv("NETRC", netrc)
        assert await fetch(server.url, reach=_HERE) == (200, b"x")
        assert proxy.connections == 0
    headers = server.received[0].headers
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers
    assert "cookie" not in headers


async def test_no_cookie_of_one_request_goes_with_the_next() -> None:
    """They may be of two users who name the same host."""
    data = answer(200, raw=b"x", Set_Cookie="session=1; Path=/")
    names = Names(name_example=[["127.0.0.1"]])
    async with (
        wire_server(answers(data)) as server,
        guarded(deadline=_DEADLINE, reach=_HERE, resolver=names) as client,
    ):
        for _ in range(2):
            await client.get(f"http://name.example:{server.port}/")
    assert [each.headers.get("cookie") for each in server.received] == [None, None]


async def test_refused_and_unknown_names_read_the_same() -> None:
    names = Names(private_example=[["127.0.0.1"]])
    with pytest.raises(AddressRefusedError) as refused:
        await fetch("https://private.example/", reach=PUBLIC, resolver=names)
    with pytest.raises(NoSuchHostError) as unknown:
        await fetch("https://unknown.example/", reach=PUBLIC, resolver=names)
    assert str(refused.value) == str(unknown.value)
    assert url_flaw("https://127.0.0.1/") == url_flaw("https://localhost/")


async def test_what_does_not_answer_is_told_apart() -> None:
    soon = timedelta(milliseconds=100)
    with refused_port() as url, pytest.raises(UnreachableError):
        await fetch(url, reach=_HERE)
    with full_backlog() as url, pytest.raises(TooSlowError):
        await fetch(url, reach=_HERE, deadline=soon)

    async def silence(line: Line) -> None:
        await line.request()
        await line.wait_for_the_other_end()

    async def nonsense(line: Line) -> None:
        await line.request()
        await line.send(b"SSH-2.0-OpenSSH\r\n\r\n")

    async def nothing(line: Line) -> None:
        await line.request()
        line.reset()

    async def drips(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.01)  # noqa: TID251 - the server's pace

    async with wire_server(silence) as server:
        with pytest.raises(TooSlowError):
            await fetch(server.url, reach=_HERE, deadline=soon)
        with pytest.raises(TooSlowError):  # a TLS handshake that never begins
            await fetch(server.url.replace("http", "https"), reach=_HERE, deadline=soon)
    async with wire_server(nonsense, nothing) as server:
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await fetch(server.url, reach=_HERE)
    async with wire_server(drips) as server:
        with pytest.raises(TooSlowError):
            await fetch(server.url, reach=_HERE, deadline=soon)


async def test_a_connection_is_closed_once_nothing_more_is_wanted_of_it() -> None:
    left = asyncio.Semaphore(0)

    async def shakes_no_hands(line: Line) -> None:
        await line.wait_for_the_other_end()
        left.release()

    async def lingers(line: Line) -> None:
        await line.request()
        await line.send(answer(200, raw=b"hello"))
        await line.wait_for_the_other_end()
        left.release()

    soon = timedelta(milliseconds=100)
    async with wire_server(shakes_no_hands, lingers) as server, asyncio.timeout(60):
        with pytest.raises(TooSlowError):
            await fetch(f"https://127.0.0.1:{server.port}/", reach=_HERE, deadline=soon)
        await left.acquire()
        assert await fetch(server.url, reach=_HERE, most=2) == (200, b"he")
        await left.acquire()


@pytest.mark.parametrize("tried", [["127.0.0.3", "127.0.0.1"], ["127.0.0.1", "127.0.0.3"]])
async def test_addresses_of_a_name_are_tried_in_turn(tried: list[str]) -> None:
    async with wire_server(answers(answer(200, raw=b"x"))) as server:
        names = Names(two_example=[tried])
        url = f"http://two.example:{server.port}/"
        assert await fetch(url, reach=_PRIVATE, resolver=names) == (200, b"x")


async def test_no_more_is_read_than_was_asked_for_and_nothing_is_unpacked() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    async with wire_server(answers(answer(200, raw=bomb, Content_Encoding="gzip"))) as server:
        assert await fetch(server.url, reach=_HERE, most=100) == (200, bomb[:100])

    sent = 0

    async def flood(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await line.send(b"3\r\nxxx\r\n" * 10_000)
            sent += 30_000

    async with wire_server(flood) as server:
        assert await fetch(server.url, reach=_HERE, most=500) == (200, b"x" * 500)
        with pytest.raises(UnreachableError):
            await fetch(server.url, reach=_HERE, most=1_000_000)
    assert sent < 5_000_000


async def test_heads_that_only_announce_another_are_read_for_a_while() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    sent = 0

    async def endless(line: Line) -> None:
        nonlocal sent
        await line.request()
        while True:
            await line.send(hint * 1000)
            sent += 1000

    async with wire_server(answers(hint * 3 + answer(200, raw=b"x" * 100_000))) as server:
        assert await fetch(server.url, reach=_HERE, most=100_000) == (200, b"x" * 100_000)
    async with wire_server(endless) as server:
        with pytest.raises(UnreachableError):
            await fetch(server.url, reach=_HERE)
    assert sent < 100_000


async def test_look_ups_that_hang_hold_up_a_few_threads_and_nothing_else() -> None:
    release, begun = threading.Event(), threading.Semaphore(0)
    are_daemons: list[bool] = []

    def hang(_host: str) -> Sequence[str]:
        are_daemons.append(threading.current_thread().daemon)
        begun.release()
        release.wait(10)
        return ["127.0.0.1"]

    resolver = SystemResolver(threads=2, patience=timedelta(milliseconds=50), look_up=hang)
    asked = [resolver.addresses(f"{n}.example") for n in range(8)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TooSlowError] * 8
    assert all(begun.acquire(timeout=10) for _ in range(2)), "a thread may be slow to begin"
    assert are_daemons == [True, True], "others would hold up the end of the process"
    release.set()
    resolver_after = SystemResolver(threads=1, look_up=lambda _host: ["127.0.0.1", "::1"])
    for _ in range(3):  # a place is given back
        assert await resolver_after.addresses("a.example") == [
            ip_address("127.0.0.1"),
            ip_address("::1"),
        ]


async def test_system_tells_no_such_name_from_no_answer() -> None:
    async def outcome(problem: Exception) -> type[BaseException]:
        def fail(_host: str) -> Sequence[str]:
            raise problem

        with pytest.raises(OutwardError) as caught:
            await SystemResolver(look_up=fail).addresses("a.example")
        return caught.type

    assert await outcome(socket.gaierror(socket.EAI_NONAME, "")) is NoSuchHostError
    assert await outcome(socket.gaierror(socket.EAI_NODATA, "")) is NoSuchHostError
    assert await outcome(socket.gaierror(socket.EAI_AGAIN, "")) is UnreachableError
    assert await outcome(UnicodeError()) is UnreachableError
    assert ip_address("127.0.0.1") in await SystemResolver().addresses("localhost")
