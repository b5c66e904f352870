"""How a sandbox is set up."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SandboxConfig:
    """`directory` holds everything that must survive a restart.

    Without a `token` any bearer token will do, but there must be one. `speed` divides every waiting
    time, `seed` draws them.
    """

    directory: Path
    token: str | None = field(default=None, repr=False)
    speed: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError("a sandbox's speed must be above zero")
