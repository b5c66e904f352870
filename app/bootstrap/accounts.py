"""Checks that this process has the tokens of all accounts that its jobs need."""

from app.core.errors import ConfigurationError
from app.db.engine import opened_database
from app.jobs.lanes.accounts import count_unfinished
from app.settings import Settings
from app.upstream.accounts import DEFAULT


async def require_accounts(settings: Settings) -> None:
    """Raise ConfigurationError if jobs are under way with accounts whose tokens are missing."""
    named = {DEFAULT} if settings.is_sandboxed else {one.name for one in settings.api_token}
    async with opened_database(settings.database_url) as database:
        needed = await database.read(count_unfinished)
    missing = sorted(set(needed) - named)
    if missing:
        kept = ", ".join(f"{name}=<its token>;drain" for name in missing)
        raise ConfigurationError(
            "RUNCOMFY_API_TOKEN does not name "
            + " and ".join(f"{name!r}, whose account has {_jobs(needed[name])}" for name in missing)
            + f" under way: add {kept} to it until they have ended."
        )


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
