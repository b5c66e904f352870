"""From a bearer token to a principal, and keys for users."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.errors import UnauthenticatedError
from app.auth.models import DEFAULT_SCOPES, Principal, checked_user_id
from app.auth.repository import ApiKey, AuthRepository
from app.auth.tokens import Token, hash_secret, matches
from app.core.clock import Clock
from app.core.ids import new_id
from app.db.engine import Database


class AuthService:
    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def authenticate(self, authorization: str | None) -> Principal:
        """Tell who sent this Authorization header (RFC 6750); raises UnauthenticatedError."""
        if authorization is None:
            raise UnauthenticatedError(
                "Send an API key of this gateway as `Authorization: Bearer rcg_...`."
            )
        scheme, _, text = authorization.partition(" ")
        token = Token.parse(text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise UnauthenticatedError(
                "That is not an API key of this gateway; send `Authorization: Bearer rcg_...`."
            )

        async def work(connection: AsyncConnection) -> ApiKey | None:
            return await AuthRepository(connection).find_key(token.key_id)

        key = await self._database.read(work)
        if key is None or not matches(token.secret, key.secret_hash):
            raise UnauthenticatedError("No such API key; check for a typing mistake.")
        if not key.is_valid(at=self._clock.now()):
            raise UnauthenticatedError("This API key was revoked, has expired or is disabled.")
        return Principal(user_id=key.user_id, key_id=key.id, scopes=key.scopes)

    async def create_key(self, *, user_id: str, name: str) -> Token:
        """Make a key, and its user on first sight; the token cannot be shown again."""
        checked_user_id(user_id)
        token = Token.make(new_id("key"))
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            auth = AuthRepository(tx)
            await auth.ensure_user(user_id, at=at)
            await auth.add_key(
                key_id=token.key_id,
                user_id=user_id,
                name=name,
                secret_hash=hash_secret(token.secret),
                scopes=DEFAULT_SCOPES,
                at=at,
            )

        await self._database.transact(work)
        return token
