"""Opens storages by their URL; obstore takes 4 MB, and is imported only when it is needed."""

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.core.errors import ConfigurationError
from app.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

_RETRIES = 3
_PATIENCE = timedelta(seconds=30)


def open_storage(url: str) -> ObjectStorage:
    """Open `file:///folder`, which is created if missing, or `s3://bucket/prefix`.

    Whatever else S3 needs comes from the environment's AWS_* variables, as usual.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return open_folder(Path(unquote(parts.path)))
    _unset_empty_variables()
    store = _s3(url)  # at once, so that a mistake in it stops the start
    return ObjectStorage(lambda: store, folder=None)


def open_folder(folder: Path) -> ObjectStorage:
    folder = folder.resolve()
    try:
        for purpose in ("files", "outputs"):
            (folder / purpose).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"The storage folder {folder} cannot be made ({exc.strerror});"
            " set GATEWAY_STORAGE_URL to one that can."
        ) from exc
    return ObjectStorage(partial(_local, folder), folder=folder)


def _local(folder: Path) -> "LocalStore":
    from obstore.store import LocalStore  # noqa: PLC0415 - heavy

    return LocalStore(folder)


def _unset_empty_variables() -> None:
    """Unset what manifests leave empty: obstore would sign with it, not with the machine's role."""
    for name, value in list(os.environ.items()):
        if name.startswith("AWS_") and not value:
            del os.environ[name]


def _s3(url: str) -> "S3Store":
    from obstore.exceptions import BaseError  # noqa: PLC0415 - heavy
    from obstore.store import S3Store  # noqa: PLC0415 - heavy

    options = {"connect_timeout": "5s", "timeout": f"{_PATIENCE.total_seconds():.0f}s"}
    try:
        return S3Store.from_url(
            url,
            client_options={**options, "allow_http": _allows_http()},  # type: ignore[arg-type]
            retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE},
        )
    except (BaseError, ValueError) as exc:
        raise ConfigurationError(
            "GATEWAY_STORAGE_URL cannot be used with the AWS_* variables that are set."
        ) from exc


def _allows_http() -> bool:
    """Allow plain http only if the operator's endpoint says so, as other S3 clients do."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint.startswith("http://")
