"""Addresses a client names: every spelling is read, and only the public internet is let through."""

# ruff: noqa: RUF001 - look-alike characters are what is tested

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.addresses import is_forbidden_always, is_public, literal_ip
from app.net.reach import Reach
from app.net.urls import MAX_URL_CHARACTERS, url_flaw

_PRIVATE = Reach(private=True)
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "192.0.1.1"),
    *("223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"),
    "64:ff9b::808:808",
]

NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8"),
    *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.7"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1"),
    *("::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::8.8.8.8", "100::1", "2001::1"),
    *("2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1"),
    *("fd00::1", "fe80::1", "fec0::1", "ff02::1"),
]

FORBIDDEN_ALWAYS = [
    *("169.254.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("fe80::1", "febf::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254"),
    *("::169.254.169.254", "::ffff:169.254.169.254", "::ffff:0:169.254.169.254"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1"),
    *("2001::5601:5601", "2001:db8::5efe:169.254.169.254", "2001:db8::200:5efe:169.254.169.254"),
]

SPELLINGS = {
    "127.0.0.1": [
        *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F000001"),
        *("0x7f.1", "0x7f.0.0.0x1", "0177.0.0.1", "0177.0.0.01", "017700000001"),
        *("0000000000000000000000177.1", "１２７.０.０.１", "127。0。0。1", "127．0．0．1"),
        *("127｡0｡0｡1", "①②⑦.⓪.⓪.①", "¹27.⁰.₀.1", "𝟙𝟚𝟟.0.0.1", "𝟢x𝟩𝒻000001"),
    ],
    "127.0.255.255": ["127.65535"],
    "127.255.255.255": ["127.16777215"],
    "0.0.0.0": ["0", "0x", "00.0x0.0"],
    "255.255.255.255": ["4294967295", "255.255.255.255"],
    "169.254.169.254": ["0xa9fea9fe", "2852039166", "0251.0376.0251.0376"],
    "::1": ["[::1]", "::1", "0:0:0:0:0:0:0:1"],
    "::ffff:127.0.0.1": ["::FFFF:7F00:1"],
    "fe80::1": ["[fe80::1%eth0]", "[fe80::1%25eth0]"],
}

NO_ADDRESS = [
    *("", ".", "..", "example.com", "1.2.3.4.5", "1.2.3.4.0", "1..1", "256.1.1.1", "1.256.1.1"),
    *("127.16777216", "4294967296", "08", "09.1.1.1", "0xg", "-1", "+1", " 127.0.0.1"),
    *("127.0.0.1 x", "1_0.1", "::1::", "1:2", "9" * 5000, "\ud800"),
]

# What breaks the form of a public https URL; tricks with hosts are in tests/faults/test_guard.py.
BROKEN = [
    *("", "https://", "https:///a.png", "https:example.com/a.png", "//example.com/a.png"),
    *("example.com/a.png", "http://example.com/a.png", "ftp://example.com/a.png"),
    *("file:///etc/passwd", "javascript:alert(1)", "https://example.com:80/a.png"),
    *("https://example.com:8443/a.png", "https://example.com:0/a.png"),
    *("https://example.com:99999/a.png", "https://example.com:abc/a.png"),
    *("https://example.com:４４３/a.png", "https://user@example.com/a.png"),
    *("https://user:pass@example.com/a.png", "https://@example.com/a.png"),
    *("https://example.com/a.png#x", "https://example.com/a.png#"),
    *("https://example.com#@127.0.0.1/", "https://127.0.0.1%2f@example.com/a.png"),
    *("https://exam ple.com/a.png", " https://example.com/a.png", "https://example.com/a.png\n"),
    *("https://example.com/a b.png", "https://exa\tmple.com/a.png", "https://example.com/\x00"),
    *("https://example.com/\x7f", "https://example.com/\u200b", "https://example.com/\u2028"),
    *("https://example.com/\ud800", "https:\\\\example.com\\a.png", "https://[::1/a.png"),
    *("https://example.com\\@127.0.0.1/", "https://" + "a" * 64 + ".com/a.png"),
    *("https://" + "é" * 64 + ".com/a.png", "https://" + "a." * 130 + "com/a.png"),
    *("https://example..com/a.png", "https://.example.com/a.png", "https://example.com../a.png"),
    *("https://-example.com/a.png", "https://example-.com/a.png", "https://exa$mple.com/a.png"),
    *("https://xn--a.example/a.png", "https://xn--a_.example/", "https://exa,mple.com/a.png"),
    *("https://\u212a_a.example.com/a.png", "https://example.com/a\\b.png"),
    "https://" + ("\u00e9" + "a" * 53 + ".") * 4 + "example.com/a.png",
    "https://example.com/" + "a" * MAX_URL_CHARACTERS,
]

HARMLESS = [
    *("https://example.com", "https://example.com/a.png", "HTTPS://EXAMPLE.COM/a.png"),
    *("https://example.com./a.png", "https://example.com:443/a.png", "https://8.8.8.8/a.png"),
    *("https://example.com/a.png?width=3&sig=a%2Fb%3D", "https://example.com/a%20b.png"),
    *("https://example.com/user@host/a:b.png", "https://my_bucket.s3.example.com/a.png"),
    *("https://bücher.example/ä.png", "https://xn--bcher-kva.example/a.png"),
    *("https://localhost.example.com/a.png", "https://[2606:4700:4700::1111]/a.png"),
    *("https://1.example.com/a.png", "https://3com.com/a.png"),
]

PRIVATE = [
    *("http://localhost:8000/a.png", "http://127.0.0.1:9000/a.png", "http://[::1]:9000/a.png"),
    *("https://10.1.2.3:8443/a.png", "http://minio/a.png", "http://printer.local/a.png"),
    "http://192.168.1.1/a.png",
]

NEVER = [
    *("http://169.254.169.254/latest/meta-data", "http://2852039166/", "http://[fe80::1]/"),
    *("http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/"),
    *("http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://metadata.google.internal/"),
    *("http://METADATA.google.internal./", "http://instance-data.ec2.internal/"),
    *("http://user:pass@localhost/", "http://localhost/#x"),
    *("http://1.2.3.4.5/", "http://0177.0.0.1/", "http://127\ufe0f.0.0.1/", "ftp://localhost/", ""),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_address_on_the_public_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))
    assert not is_forbidden_always(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_address_that_is_private_reserved_or_retired_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", FORBIDDEN_ALWAYS)
def test_link_local_and_metadata_addresses_are_forbidden_in_any_wrapping(text: str) -> None:
    assert is_forbidden_always(ip_address(text))
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd12::1"])
def test_loopback_and_private_addresses_can_be_allowed(text: str) -> None:
    assert not is_forbidden_always(ip_address(text))


@pytest.mark.parametrize("meaning", SPELLINGS)
def test_every_spelling_of_an_address_is_read(meaning: str) -> None:
    for spelling in SPELLINGS[meaning]:
        assert literal_ip(spelling) == ip_address(meaning), spelling


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_what_is_no_address_is_read_as_none(text: str) -> None:
    assert literal_ip(text) is None


def test_unlike_the_standard_library_wrapped_loopback_is_not_public() -> None:
    assert IPv6Address("64:ff9b::7f00:1").is_global
    assert not is_public(IPv6Address("64:ff9b::7f00:1"))
    assert IPv4Address("224.0.0.1").is_global
    assert not is_public(IPv4Address("224.0.0.1"))


@pytest.mark.parametrize("url", BROKEN)
def test_url_that_is_no_plain_https_one_is_refused(url: str) -> None:
    assert url_flaw(url) is not None


@pytest.mark.parametrize("url", HARMLESS)
def test_https_url_of_a_public_host_is_fine_also_where_private_ones_are(url: str) -> None:
    assert url_flaw(url) is None
    assert url_flaw(url, reach=_PRIVATE) is None


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks_open_only_when_allowed(url: str) -> None:
    assert url_flaw(url) is not None
    assert url_flaw(url, reach=_PRIVATE) is None


@pytest.mark.parametrize("url", NEVER)
def test_nothing_opens_metadata_addresses_credentials_or_broken_forms(url: str) -> None:
    assert url_flaw(url, reach=_PRIVATE) is not None


def test_url_of_the_longest_length_is_fine() -> None:
    start = "https://example.com/"
    longest = start + "a" * (MAX_URL_CHARACTERS - len(start))
    assert url_flaw(longest) is None
    assert url_flaw(longest + "a") == "must be a URL of at most 8192 characters"


@pytest.mark.timeout(60)
def test_accents_without_end_hold_up_nobody() -> None:
    """They are looked at on the event loop, where all others wait for it."""
    accents = "\u0315" * 4000 + "\u0323" * 4000  # which their normal form has the other way round
    for _ in range(1000):  # as many as an input may name
        assert url_flaw(f"https://a{accents}.example/") == "names no valid host and port"


@pytest.mark.parametrize("label", ["".join(map(chr, range(0x4E00, 0x4E00 + 280))), "ﷺ" * 280])
def test_label_too_long_for_any_name_is_not_put_into_ascii(label: str) -> None:
    """Its cost is the square of its length, and an input may name hundreds."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        flaw = url_flaw(f"https://{label}.example/")
    finally:
        sys.setprofile(None)
    assert flaw == "names no valid host"
    assert steps < 1000


def test_refusal_never_quotes_the_url() -> None:
    assert (
        url_flaw("https://user:hunter2@example.com/") == "must not contain a user name or password"
    )


PARTS = ["xn--", "a", "-", "_", ".", "。", "é", "ß", "ﬁ", "İ", "א", "1", "0x7f", "%41", "[", "]"]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join))
def test_url_without_a_flaw_can_be_asked_for(host: str) -> None:
    url = f"http://{host}/a.png"
    if url_flaw(url, reach=_PRIVATE) is None:
        assert httpx.Request("GET", url).headers["Host"]


@given(
    st.sampled_from(["http", "https"]),
    st.one_of(
        st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join),
        st.from_regex(r"[a-z0-9_.\u212a-]{1,20}", fullmatch=True),  # and what folds into them
    ),
    st.sampled_from(["", ":", ":443"]),
)
def test_host_without_a_flaw_is_one_to_the_client_that_would_fetch_it(
    scheme: str, host: str, port: str
) -> None:
    url = f"{scheme}://{host}{port}"
    if url_flaw(url, reach=_PRIVATE) is None:
        assert httpx.URL(url).host
