"""A RunComfy that runs here: same routes, real films, made-up prices, and faults on demand."""

from app.sandbox.config import SandboxConfig
from app.sandbox.server import create_sandbox, require_extra, running_sandbox

__all__ = [
    "SandboxConfig",
    "create_sandbox",
    "require_extra",
    "running_sandbox",
]
