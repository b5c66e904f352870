"""Origins of web pages (RFC 6454), written as browsers write them."""

import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]+)?")


def origin_of(url: str) -> str:
    """Return the origin of an http:// or https:// URL, or raise ValueError."""
    parts = urlsplit(url)
    port = parts.port  # raises ValueError if it is not a number
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("it must be like https://app.example, or http://localhost:3000")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as exc:
        raise ValueError("it names no host") from exc
    is_default = port in (None, DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


def checked_origin(text: str) -> str:
    """Return the origin, or raise ValueError with how browsers would write it."""
    if text in ("*", "null"):
        raise ValueError(f"{text!r} would open it to every page: name each origin")
    origin = origin_of(text)
    if not _ORIGIN.fullmatch(origin):  # a pattern, or several: no browser would ever send it
        raise ValueError(
            f"{text[:200]!r} is not one origin; write each by name, with commas between them"
        )
    if origin != text:
        raise ValueError(f"write {text[:200]!r} as {origin!r}, which is what browsers send")
    return origin
