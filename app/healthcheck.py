"""`gateway-healthcheck`: asks a gateway whether it is healthy, for container health checks.

It imports next to nothing: a check every few seconds must not cost as much as what it checks.
"""

import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_ALIVE = "http://127.0.0.1:8000/healthz"
_PATIENCE_S = 2


def main() -> None:
    """Exit with 0 if the address answers 200, else with 1 and a sentence."""
    url = urlsplit(sys.argv[1] if len(sys.argv) > 1 else _ALIVE)
    asked = HTTPConnection(url.hostname or "", url.port, timeout=_PATIENCE_S)
    try:
        asked.request("GET", url.path)
        answer = asked.getresponse()
        said = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException) as exc:
        sys.exit(f"no answer: {type(exc).__name__}")
    if answer.status != 200:  # noqa: PLR2004 - the one status that means healthy
        sys.exit(f"{answer.status}: {said}")
