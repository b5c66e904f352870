"""The composition root: settings in, services and workers out, closed in reverse."""

from app.bootstrap.accounts import require_accounts
from app.bootstrap.catalogue import open_catalogue
from app.bootstrap.keys import secret_keys, webhook_sealer
from app.bootstrap.parts import Parts, open_parts
from app.bootstrap.stores import storage_of
from app.bootstrap.workers import Workers

__all__ = [
    "Parts",
    "Workers",
    "open_catalogue",
    "open_parts",
    "require_accounts",
    "secret_keys",
    "storage_of",
    "webhook_sealer",
]
