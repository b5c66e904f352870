"""Which URLs a client may name: what can be told from the text, before anything is looked up."""

import re
from urllib.parse import SplitResult, urlsplit

from app.net.addresses import is_forbidden_always, is_public, literal_ip, plain_host

MAX_URL_CHARACTERS = 8192

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_HTTPS_PORT = 443
_PRIVATE_ZONES = frozenset({"localhost", "local", "internal", "localdomain", "home.arpa"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "instance-data.ec2.internal"})


def url_flaw(url: str, *, allow_private_networks: bool = False) -> str | None:
    """Say why `url` may not be followed, as the end of a sentence that never quotes it.

    None means that its text is harmless. A name may still resolve to a private address: whoever
    connects judges the addresses again.
    """
    if flaw := _text_flaw(url):
        return flaw
    parts = _split(url)
    if parts is None:
        return "names no valid host and port"
    if "@" in parts.netloc:
        return "must carry no user name or password"
    return _scheme_flaw(parts, allow_private_networks=allow_private_networks) or _host_flaw(
        parts, allow_private_networks=allow_private_networks
    )


def _text_flaw(url: str) -> str | None:
    if not url:
        return "is empty"
    if len(url) > MAX_URL_CHARACTERS:
        return f"must be a URL of at most {MAX_URL_CHARACTERS} characters"
    if "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        return "must hold no space, control character or backslash; percent-encode them"
    if "#" in url:
        return "must carry no fragment, the part from # on"
    return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it is what checks it
    except ValueError:
        return None
    return parts


def _scheme_flaw(parts: SplitResult, *, allow_private_networks: bool) -> str | None:
    if allow_private_networks:
        return None if parts.scheme in ("https", "http") else "must be an https:// or http:// URL"
    if parts.scheme != "https":
        return "must be an https:// URL"
    if parts.port not in (None, _HTTPS_PORT):
        return f"must use port {_HTTPS_PORT}, which https:// does without naming it"
    return None


def _host_flaw(parts: SplitResult, *, allow_private_networks: bool) -> str | None:
    host = parts.hostname or ""
    if ip := literal_ip(host):
        if "%" in host:
            return "must name an address without a zone"
        if is_forbidden_always(ip) or not (allow_private_networks or is_public(ip)):
            return "must lead to the public internet, not to a private or reserved address"
        return None
    name = _dns_name(host)
    if name is None or "[" in parts.netloc:
        return "names no valid host"
    if name in _METADATA_NAMES or not (allow_private_networks or _is_public_name(name)):
        return "must name a host on the public internet"
    return None


def _dns_name(host: str) -> str | None:
    """Fold `host` to the ASCII name that would be looked up; None where none would be."""
    name = plain_host(host).removesuffix(".")
    if len(name) > _LONGEST_NAME:
        return None
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    labels = name.split(".")
    # A last label that is a number makes browsers and resolvers see an address, never a name.
    if len(name) > _LONGEST_NAME or _NUMBER.fullmatch(labels[-1]):
        return None
    return name if all(map(_LABEL.fullmatch, labels)) else None


def _is_public_name(name: str) -> bool:
    labels = name.split(".")
    zones = {labels[-1], ".".join(labels[-2:])}
    return len(labels) > 1 and zones.isdisjoint(_PRIVATE_ZONES)
