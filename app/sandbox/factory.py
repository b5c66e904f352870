"""Makes the app, or says which extra is missing."""

import importlib.util

from starlette.types import ASGIApp

from app.core.clock import Clock, SystemClock
from app.core.errors import ConfigurationError
from app.sandbox.config import SandboxConfig

_SYSTEM_CLOCK = SystemClock()


def require_extra() -> None:
    """Raise ConfigurationError unless the sandbox's extra is installed."""
    if any(importlib.util.find_spec(name) is None for name in ("av", "PIL")):
        raise ConfigurationError(
            "The sandbox draws its own pictures; install what it needs:"
            " pip install 'runcomfy-gateway[sandbox]'"
        )


def create_sandbox(config: SandboxConfig, *, clock: Clock = _SYSTEM_CLOCK) -> ASGIApp:
    """Build an app that opens its state when first used and closes it with its lifespan."""
    require_extra()
    # The one import inside a function: it needs the extra, which may be missing until here.
    from app.sandbox.app import assemble  # noqa: PLC0415

    return assemble(config, clock=clock)
