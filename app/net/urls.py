"""Which URLs a client may name: what the text shows, before anything is looked up."""

import re
from urllib.parse import SplitResult, urlsplit

import httpx

from app.net.reach import PUBLIC, Reach

MAX_URL_CHARACTERS = 8192

_NO_HOST = "names no valid host and port"
_AUTHORITY = re.compile(r"//([^/?#]*)")
# More than any name and port take. A host is normalised (Unicode's NFKC) many times, which takes
# quadratic time in a row of accents.
_LONGEST_AUTHORITY = 300
# An ASCII name with nothing to decode, and no address: every client reads it as it is.
_PLAIN_NAME = re.compile(r"(?!xn--)[0-9.]*[a-z_-][a-z0-9_.-]*")


def url_flaw(url: str, *, reach: Reach = PUBLIC) -> str | None:
    """Say why `url` may not be followed, as the end of a sentence that never quotes it.

    None means that its text is harmless. A name may still resolve to a private address: whoever
    connects must check the addresses.
    """
    if flaw := _text_flaw(url):
        return flaw
    parts = _split(url)
    if parts is None:
        return _NO_HOST
    if "@" in parts.netloc:
        return "must not contain a user name or password"
    host = parts.hostname or ""
    if flaw := reach.flaw(scheme=parts.scheme, host=host, port=parts.port):
        return flaw
    if "[" in parts.netloc and ":" not in host:
        return _NO_HOST  # brackets are for addresses
    # As it was written: the Kelvin sign, for one, is a `k` only once it is folded.
    is_plain = parts.netloc.isascii() and _PLAIN_NAME.fullmatch(host)
    return None if is_plain or _is_fetchable(parts) else _NO_HOST


def is_reachable(url: str) -> bool:
    """Return whether a server on the internet could follow `url`, as far as its text shows."""
    parts = _split(url)
    if parts is None:
        return False
    # An operator's gateway may be on another port than 443; a client's address may not.
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return url_flaw(parts._replace(netloc=host or "").geturl()) is None


def _text_flaw(url: str) -> str | None:
    if not url:
        return "is empty"
    if len(url) > MAX_URL_CHARACTERS:
        return f"must be a URL of at most {MAX_URL_CHARACTERS} characters"
    if "\\" in url or " " in url or not url.isprintable():  # other white space is not printable
        return "must not contain spaces, control characters or backslashes; percent-encode them"
    if "#" in url:
        return "must not contain a fragment, the part from # on"
    return None


def is_data_uri(text: str) -> bool:
    """Return whether this is a file itself (RFC 2397), not an address of one."""
    return text[:5].lower() == "data:"


def _split(url: str) -> SplitResult | None:
    authority = _AUTHORITY.search(url)
    if authority and len(authority[1]) > _LONGEST_AUTHORITY:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it is what checks it
    except ValueError:
        return None
    return parts


def _is_fetchable(parts: SplitResult) -> bool:
    """Return whether our HTTP client finds the host valid too; it accepts any path."""
    try:
        # It decodes the host, and an xn-- label may decode to nothing.
        return bool(httpx.URL(f"{parts.scheme}://{parts.netloc}").host)
    except (httpx.InvalidURL, UnicodeError):
        return False
