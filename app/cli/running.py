"""How every command reads its settings and runs asynchronous code."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from app.core.garbage import freeze_loaded_objects
from app.core.logging import configure_logging
from app.sandbox import require_extra
from app.settings import Settings, load_settings

Answer = TypeVar("Answer")


def settings(*, needs_upstream: bool = True) -> Settings:
    loaded = load_settings()
    configure_logging(format=loaded.log_format, level=loaded.log_level)
    if needs_upstream:
        loaded.require_upstream()
        if loaded.is_sandboxed:
            require_extra()
    return loaded


def prepared_settings(*, needs_upstream: bool = True) -> Settings:
    """Load the settings, and migrate or check the database that they name."""
    from app.bootstrap.database import prepare_database

    loaded = settings(needs_upstream=needs_upstream)
    prepare_database(loaded)
    return loaded


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    freeze_loaded_objects()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
