"""What this gateway signs and seals with."""

import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import SecretBytes

from app.core.sealing import Sealer
from app.settings import Settings


def secret_keys(settings: Settings) -> Sequence[SecretBytes]:
    if settings.secret_key:
        return [SecretBytes(key.get_secret_value().encode()) for key in settings.secret_key]
    assert settings.sqlite_path is not None
    return [key_beside(settings.sqlite_path)]


def webhook_sealer(settings: Settings) -> Sealer:
    """Give what webhook secrets are stored under."""
    return Sealer(secret_keys(settings), purpose="webhook secrets")


def key_beside(database: Path) -> SecretBytes:
    """Give the key of an SQLite gateway, made once and readable by its owner alone."""
    path = database.with_name(f"{database.name}.secret")
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=database.parent) as draft:  # 0600
            draft.write(secrets.token_hex(32).encode())
            draft.flush()
            os.fsync(draft.fileno())  # what it has sealed by the next power cut is stored, too
            with suppress(FileExistsError):  # another process was first: its key it is
                os.link(draft.name, path)
    return SecretBytes(path.read_bytes())
