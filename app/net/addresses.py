"""Which IP addresses a client may lead the gateway to, however they are spelt."""

import re
import unicodedata
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address


def _ipv4(*blocks: str) -> tuple[IPv4Network, ...]:
    return tuple(map(IPv4Network, blocks))


def _ipv6(*blocks: str) -> tuple[IPv6Network, ...]:
    return tuple(map(IPv6Network, blocks))


# Kept by hand: on 3.11 `is_global` is true of multicast, of NAT64 and 6to4 of loopback, and more.
_NOT_PUBLIC_V4 = _ipv4(
    "0.0.0.0/8",  # this network; connects to loopback
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "168.63.129.16/32",  # Azure's host, public by number only
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
)
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = _ipv6(
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",
    "2002::/16",  # 6to4 is retired and hides an IPv4 address
    "3fff::/20",
)
_PRIVATE_V4 = _ipv4(
    "0.0.0.0/32",  # connects to loopback, and servers print it as their address
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
)
_PRIVATE_V6 = _ipv6("::/127", "fc00::/7")
_FORBIDDEN_ALWAYS_V4 = _ipv4(
    "169.254.0.0/16",
    "100.100.100.200/32",  # metadata at Alibaba
    "168.63.129.16/32",  # metadata at Azure
    "192.0.0.192/32",  # metadata at Oracle
)
_FORBIDDEN_ALWAYS_V6 = _ipv6(
    "fe80::/10",
    "fd00:ec2::/32",  # metadata at AWS
    "fd20:ce::254/128",  # metadata at Google
)

# Blocks that end in the IPv4 address they stand for.
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_OTHER_WRAPPERS = _ipv6("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the third 32 bits of an ISATAP address

_INET_ATON_PARTS = (
    (re.compile(r"0x([0-9a-f]*)"), 16),
    (re.compile(r"0([0-7]*)"), 8),
    (re.compile(r"([1-9][0-9]*)"), 10),
)
_IDEOGRAPHIC_STOP = "\u3002"


def is_public(ip: IPAddress) -> bool:
    """Return whether `ip` is on the public internet; IPv4 inside IPv6 is judged as IPv4."""
    if isinstance(ip, IPv4Address):
        return not _within(ip, _NOT_PUBLIC_V4)
    if ip in _MAPPED or ip in _NAT64:
        return is_public(_last_32_bits(ip))
    return ip in _GLOBAL_UNICAST_V6 and not _within(ip, _NOT_PUBLIC_V6)


def is_private(ip: IPAddress) -> bool:
    """Return whether `ip` is this machine's or belongs to a private network.

    Some of those are forbidden all the same; `is_forbidden_always` tells.
    """
    plain = unwrapped(ip)
    if isinstance(plain, IPv4Address):
        return _within(plain, _PRIVATE_V4)
    return _within(plain, _PRIVATE_V6)


def unwrapped(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped one, which the system would connect to."""
    return _last_32_bits(ip) if isinstance(ip, IPv6Address) and ip in _MAPPED else ip


def is_forbidden_always(ip: IPAddress) -> bool:
    """Return whether `ip` is link-local or a cloud's metadata service, however wrapped."""
    if isinstance(ip, IPv4Address):
        return _within(ip, _FORBIDDEN_ALWAYS_V4)
    return _within(ip, _FORBIDDEN_ALWAYS_V6) or any(map(is_forbidden_always, _wrapped(ip)))


def literal_ip(host: str) -> IPAddress | None:
    """Read `host` as an address, in every spelling that any resolver accepts."""
    text = plain_host(host).removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return IPv6Address(text) if ":" in text else _inet_aton(text.removesuffix("."))
    except ValueError:
        return None


def plain_host(host: str) -> str:
    """Fold the look-alikes that resolvers fold: letter case, wide and circled forms, odd dots."""
    return unicodedata.normalize("NFKC", host).lower().replace(_IDEOGRAPHIC_STOP, ".")


def _within(ip: IPAddress, blocks: tuple[IPv4Network, ...] | tuple[IPv6Network, ...]) -> bool:
    return any(ip in block for block in blocks)


def _wrapped(ip: IPv6Address) -> Iterator[IPv4Address]:
    number = int(ip)
    if ip in _MAPPED or ip in _NAT64 or _within(ip, _OTHER_WRAPPERS):
        yield _last_32_bits(ip)
    if ip in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    if ip in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield _last_32_bits(ip)


def _last_32_bits(ip: IPv6Address) -> IPv4Address:
    return IPv4Address(int(ip) & 0xFFFFFFFF)


def _inet_aton(text: str) -> IPv4Address | None:
    """Read one to four decimal, octal or hexadecimal parts; the last fills the remaining bytes."""
    *leading, end = text.split(".")
    last, room = _part(end), 4 - len(leading)
    if last is None or room < 1 or last >= 256**room:
        return None
    number = last
    for position, part in enumerate(map(_part, leading)):
        if part is None or part > 255:  # noqa: PLR2004 - one byte
            return None
        number += part << (24 - 8 * position)
    return IPv4Address(number)


def _part(text: str) -> int | None:
    for form, base in _INET_ATON_PARTS:
        if found := form.fullmatch(text):
            return int(found[1] or "0", base)
    return None
