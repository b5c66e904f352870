"""The keys with which this gateway signs and seals."""

import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import SecretBytes

from app.core.errors import ConfigurationError
from app.core.sealing import Sealer
from app.settings import SHORTEST_SECRET, Settings


def secret_keys(settings: Settings) -> Sequence[SecretBytes]:
    if settings.secret_key:
        return [SecretBytes(key.get_secret_value().encode()) for key in settings.secret_key]
    assert settings.sqlite_path is not None
    return [key_beside(settings.sqlite_path)]


def webhook_sealer(settings: Settings) -> Sealer:
    """Return what seals webhook secrets."""
    return Sealer(secret_keys(settings), purpose="webhook secrets")


def key_beside(database: Path) -> SecretBytes:
    """Return the key of an SQLite gateway, made once and readable only by its owner."""
    path = database.with_name(f"{database.name}.secret")
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"{path.absolute()}, which holds the key that signs links, cannot be read"
            f" ({exc.strerror}); give this user the right to read it."
        ) from exc
    if len(key) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"{path.absolute()} holds no key of {SHORTEST_SECRET} bytes: put it back from a backup,"
            " or remove it; then earlier links are invalid, and webhook secrets must be rotated."
        )
    return SecretBytes(key)


def _make(path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent) as draft:  # 0600
        draft.write(secrets.token_hex(32).encode())
        draft.flush()
        os.fsync(draft.fileno())  # or a power cut could lose the key to what is sealed by then
        with suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft.name, path)
