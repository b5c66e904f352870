"""The RunComfy accounts that jobs are sent with."""

import re
from dataclasses import dataclass

from pydantic import SecretStr

DEFAULT = "default"
"""The account of a token without a name, and of jobs from before accounts had names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_DRAINS = ";drain"
_TOKEN = re.compile(r"[!-+\--:<-~]+")  # visible ASCII without comma and semicolon
PLACEHOLDERS = frozenset({"changeme", "change-me", "secret", "token", "your-token", "xxx"})


@dataclass(frozen=True, slots=True)
class Account:
    """An account that `drains` takes no new jobs; those it has are followed to their end."""

    name: str
    token: SecretStr
    drains: bool = False


def parse_accounts(text: str) -> tuple[Account, ...]:
    """Read a token, or `account=token` pairs with commas; a ValueError never quotes the tokens.

    A value that ends in `=` is one token: that is how base64 is padded.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and not parts[0].rstrip("=").count("="):
        return (Account(DEFAULT, _token(parts[0], of="it")),)
    accounts = []
    for place, part in enumerate(parts, 1):
        name, equals, rest = part.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(
                f"entry {place} must be `account=token`, with a name of 1 to 40 letters, digits"
                " and . _ -"
            )
        drains = rest.endswith(_DRAINS)
        token = _token(rest.removesuffix(_DRAINS), of=f"the token of {name}")
        accounts.append(Account(name, token, drains))
    if len({account.name for account in accounts}) < len(accounts):
        raise ValueError("each account may be given only once")
    if all(account.drains for account in accounts):
        raise ValueError("every account drains, so no job could be sent: leave one without ;drain")
    return tuple(accounts)


def _token(text: str, *, of: str) -> SecretStr:
    if text.lower() in PLACEHOLDERS:
        raise ValueError(f"{of} is a placeholder, not a token")
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{of} must be visible ASCII characters, without commas and semicolons")
    return SecretStr(text)
