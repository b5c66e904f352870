"""Links to uploaded files that need no key: signed for one file, until one instant."""

from datetime import datetime, timedelta

from app.core.signatures import Signer

_SHOWN_FOR = timedelta(hours=24)


class FileLinks:
    """Links are made from `public_url`, never from what a request claims."""

    def __init__(self, *, public_url: str, signer: Signer) -> None:
        self._files_url = f"{public_url.rstrip('/')}/v1/files"
        self._signer = signer

    def about(self, file_id: str) -> str:
        """Return where the file is described, for whoever has a credential."""
        return f"{self._files_url}/{file_id}"

    def until(self, file_id: str, expires_at: datetime) -> str:
        query = self._signer.query(file_id, expires=int(expires_at.timestamp()) + 1)
        return f"{self.about(file_id)}/content?{query}"

    def for_owner(self, file_id: str, *, at: datetime) -> str:
        """Return a link that is valid for a day; it stays the same for an hour."""
        hour = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return self.until(file_id, hour + _SHOWN_FOR)

    def is_signed(self, file_id: str, *, expires: int, signature: str, at: datetime) -> bool:
        return self._signer.admits(file_id, expires=expires, signature=signature, at=at)
