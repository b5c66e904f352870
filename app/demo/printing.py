"""What the demos print, and how they read their gateway's answers."""

import sys
from typing import Any

import httpx

from app.core.errors import ConfigurationError


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answer_of(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise ConfigurationError(f"The demo's gateway answered {response.text}")
    answer: dict[str, Any] = response.json()
    return answer
