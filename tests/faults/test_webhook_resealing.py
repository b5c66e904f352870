"""The key that webhook secrets are stored under can be replaced without losing one of them."""

import httpx
import pytest
from pydantic import SecretBytes
from sqlalchemy.exc import OperationalError

from app.bootstrap.keys import webhook_sealer
from app.core.clock import ManualClock
from app.core.sealing import Sealer
from app.db.engine import open_database
from app.settings import explicit_settings
from app.webhooks import resealing
from app.webhooks.resealing import Resealed
from tests.support.gateway import Sandbox, running
from tests.support.receiver import receiving
from tests.support.rows import change

OLD, NEW = "old-key-" + "o" * 32, "new-key-" + "n" * 32
ENDPOINTS = "/v1/webhook-endpoints"
NETWORKS = ["127.0.0.0/8"]
USERS = ("alice", "bob", "carol")


async def reseal(database_url: str, *keys: str) -> Resealed:
    database = open_database(database_url)
    sealer = webhook_sealer(explicit_settings(secret_key=keys))
    try:
        return await resealing.reseal(database, sealer)
    finally:
        await database.close()


async def test_after_resealing_the_old_key_may_go(
    database_url: str, sandbox: Sandbox, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_PAGE", 2)
    async with receiving() as receiver:
        async with running(
            database_url, sandbox=sandbox, clock=clock, secret_key=OLD, webhook_networks=NETWORKS
        ) as before:
            secrets = [await secret_of(await before.client_of(user)) for user in USERS]
            made = (await before.http.post(ENDPOINTS, json={"url": receiver.url})).json()
            url = f"{ENDPOINTS}/{made['id']}"
            rotated = (await before.http.post(f"{url}/rotate")).json()

        everything = (*USERS, made["id"], made["id"])
        broken = await reseal(database_url, NEW)
        assert (broken.renewed, broken.current) == (0, 0)
        assert sorted(broken.broken) == sorted(everything)
        assert await reseal(database_url, NEW, OLD) == Resealed(renewed=5)
        assert await reseal(database_url, NEW, OLD) == Resealed(current=5)

        async with running(
            database_url, sandbox=sandbox, clock=clock, secret_key=NEW, webhook_networks=NETWORKS
        ) as after:
            assert [await secret_of(await after.client_of(user)) for user in USERS] == secrets
            await after.http.post(f"{url}/test")
            assert await after.deliver() == 1
            assert receiver.last.is_signed_with(made["secret"])
            assert receiver.last.is_signed_with(rotated["secret"])

    change(database_url, "UPDATE webhook_secrets SET secret = 'x' WHERE user_id = 'bob'")
    assert await reseal(database_url, NEW) == Resealed(current=4, broken=("bob",))


async def test_a_secret_that_is_sealed_anew_is_not_rotated_meanwhile(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """Or the old one would be put back, and the new one lost."""
    async with running(database_url, sandbox=sandbox, clock=clock, secret_key=OLD) as gateway:
        await secret_of(gateway.http)
    soon = "?timeout=0.1" if database_url.startswith("sqlite") else "&options=-clock_timeout%3D100"

    class Watched(Sealer):
        def renew(self, sealed: str) -> str:
            with pytest.raises(OperationalError, match="lock"):
                change(f"{database_url}{soon}", "UPDATE webhook_secrets SET secret = 'rotated'")
            return super().renew(sealed)

    database = open_database(database_url)
    keys = [SecretBytes(key.encode()) for key in (NEW, OLD)]
    done = await resealing.reseal(database, Watched(keys, purpose="webhook secrets"))
    await database.close()
    assert done == Resealed(renewed=1)


async def secret_of(user: httpx.AsyncClient) -> str:
    answer = await user.get("/v1/webhook-secret")
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()["secret"]
    return secret
