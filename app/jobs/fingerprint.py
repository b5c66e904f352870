"""Whether two requests ask for the same thing."""

import hashlib
import json
from typing import Any


def fingerprint(route: str, body: Any) -> str:
    """Hash a route and a JSON body as RFC 8785 reads it: key order is ignored, 5.0 equals 5."""
    canonical = json.dumps(_plain(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{route}\n{canonical}".encode()).hexdigest()


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
