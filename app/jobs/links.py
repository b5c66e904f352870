"""Signed links to one job, for clients that cannot send a header: `<video>` and EventSource."""

from dataclasses import dataclass
from datetime import datetime

from app.core.signatures import Signer


@dataclass(frozen=True, slots=True)
class LinkClaim:
    """What a request claims to be allowed; not to be trusted before it is verified."""

    grant: str
    expires: int
    signature: str


class JobLinks:
    """Each link is signed for one client token, one job, one path below it, and an expiry.

    It names the token by its id, which is no secret, so that it dies with the token.
    """

    def __init__(self, *, public_url: str, signer: Signer) -> None:
        self._jobs_url = f"{public_url.rstrip('/')}/v1/jobs"
        self._signer = signer

    def events(self, job_id: str, *, grant: str, until: datetime) -> str:
        return self._signed(job_id, "events", grant=grant, until=until)

    def output(self, job_id: str, n: int, *, grant: str, until: datetime) -> str:
        return self._signed(job_id, f"outputs/{n}", grant=grant, until=until)

    def is_genuine(self, claim: LinkClaim, *, job_id: str, path: str, at: datetime) -> bool:
        subject = _subject(job_id, path, grant=claim.grant)
        return self._signer.admits(subject, expires=claim.expires, signature=claim.signature, at=at)

    def _signed(self, job_id: str, path: str, *, grant: str, until: datetime) -> str:
        subject = _subject(job_id, path, grant=grant)
        query = self._signer.query(subject, expires=int(until.timestamp()))
        return f"{self._jobs_url}/{job_id}/{path}?grant={grant}&{query}"


def _subject(job_id: str, path: str, *, grant: str) -> str:
    return f"{grant}/{job_id}/{path}"
