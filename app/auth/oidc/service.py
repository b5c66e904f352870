"""Signing in with a token of the identity provider: its user becomes one of ours."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.checks import is_plan_name
from app.auth.directory.repository import DirectoryRepository
from app.auth.directory.users import save_changed
from app.auth.errors import UserDisabledError
from app.auth.oidc.errors import UnknownPlanClaimError
from app.auth.oidc.naming import key_id_of
from app.auth.oidc.verifier import OidcVerifier
from app.auth.repository import AuthRepository, FoundKey
from app.auth.scopes import CLIENT_SCOPES
from app.core.clock import Clock
from app.core.errors import UnauthenticatedError
from app.db.engine import Database


class OidcSignIn:
    """Each user has one key without a secret: jobs name it, operators narrow or revoke it."""

    def __init__(
        self, *, database: Database, clock: Clock, verifier: OidcVerifier, follows_plan: bool
    ) -> None:
        self._database = database
        self._clock = clock
        self._verifier = verifier
        self._follows_plan = follows_plan

    async def sign_in(self, token: str) -> tuple[FoundKey, datetime]:
        """Return the key that stands for the token's user, and the token's end.

        The user is created on first use; where a claim names the plan, it is updated each time.
        Raises UnauthenticatedError, UserDisabledError, UnknownPlanClaimError or
        IdentityProviderUnavailableError.
        """
        identity = await self._verifier.verify(token)
        user_id, key_id = identity.user_id, key_id_of(identity.user_id)
        plan = _plan(identity.plan)
        at = self._clock.now()

        async def make(tx: AsyncConnection) -> FoundKey | None:
            if plan is not None and await DirectoryRepository(tx).find_plan(plan) is None:
                raise UnknownPlanClaimError
            auth = AuthRepository(tx)
            await auth.ensure_user(user_id, at=at, plan_name=plan)
            await auth.ensure_sign_in_key(
                key_id, user_id=user_id, scopes=[scope.value for scope in CLIENT_SCOPES], at=at
            )
            if self._follows_plan:
                await _move(tx, user_id, plan, at=at)
            return await auth.find_key(key_id)

        found = await self._database.look_up(lambda tx: AuthRepository(tx).find_key(key_id))
        if found is None or (self._follows_plan and found.terms.own_plan != plan):
            found = await self._database.transact(make)
        assert found is not None
        if found.terms.disabled:
            raise UserDisabledError(user_id)
        if not found.key.is_valid(at=at):
            raise UnauthenticatedError("An operator has ended the sign-ins of this user.")
        return found, identity.ends_at


def _plan(claimed: object) -> str | None:
    if claimed is None:
        return None
    if not isinstance(claimed, str) or not is_plan_name(claimed):
        raise UnknownPlanClaimError
    return claimed


async def _move(tx: AsyncConnection, user_id: str, plan: str | None, *, at: datetime) -> None:
    user = await DirectoryRepository(tx).find_user(user_id, lock=True)
    if user is not None and user.plan != plan:
        await save_changed(tx, replace(user, plan=plan), before=user, actor="system", at=at)
