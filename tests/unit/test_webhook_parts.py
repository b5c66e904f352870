"""The pure parts of webhooks: the ladder, signatures, sealed secrets, owners."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretBytes
from standardwebhooks import Webhook

from app.core.owners import owner_of
from app.core.sealing import SealBrokenError, Sealer
from app.webhooks.events import event_of, state_of
from app.webhooks.outbox import receiver_of
from app.webhooks.schedule import LADDER, retry_delay
from app.webhooks.signing import NoSecretError, new_secret, signed_headers

OLD, NEW = SecretBytes(b"o" * 32), SecretBytes(b"n" * 32)


def test_the_ladder_is_that_of_the_specification_spread_by_a_tenth() -> None:
    for step, wait in enumerate(LADDER):
        assert retry_delay(step, jitter=0) == wait
        assert retry_delay(step, jitter=0.5) == wait * 1.05
    assert retry_delay(len(LADDER), jitter=0) is None
    assert sum(LADDER, timedelta()) > timedelta(days=1)


def test_a_receiver_may_ask_for_more_patience_but_not_for_ever() -> None:
    minute = timedelta(minutes=1)
    assert retry_delay(0, jitter=0, retry_after=minute) == minute
    assert retry_delay(1, jitter=0, retry_after=minute) == LADDER[1]
    assert retry_delay(0, jitter=0, retry_after=timedelta(days=365)) == max(LADDER)
    assert retry_delay(0, jitter=0, retry_after=-minute) == LADDER[0]
    assert retry_delay(len(LADDER), jitter=0, retry_after=minute) is None


def test_each_secret_signs_what_the_reference_library_verifies() -> None:
    secrets, body = [new_secret(), new_secret()], '{"type": "job.completed", "data": "ünï"}'
    at = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - the library reads the clock too
    headers = signed_headers(secrets, message_id="msg_1", body=body, at=at)
    for secret in secrets:
        Webhook(secret).verify(body, headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(new_secret()).verify(body, headers)


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(NoSecretError):
        signed_headers([], message_id="msg_1", body="{}", at=datetime.now(UTC))  # noqa: TID251


def test_what_was_sealed_opens_while_its_key_is_there_and_nowhere_else() -> None:
    sealed = Sealer([OLD], purpose="webhook secrets").seal("whsec_secret")
    assert "whsec" not in sealed
    assert Sealer([NEW, OLD], purpose="webhook secrets").open(sealed) == "whsec_secret"
    for stranger in (Sealer([NEW], purpose="webhook secrets"), Sealer([OLD], purpose="other")):
        with pytest.raises(SealBrokenError):
            stranger.open(sealed)


def test_events_and_states_name_each_other() -> None:
    assert [event_of(state) for state in ("pending", "submitting", "late_request_id")] == [None] * 3
    assert event_of("completed") == "job.completed"
    assert state_of("job.submit_unknown") == "submit_unknown"
    assert state_of("webhook.test") is None


def test_a_services_secret_signs_for_its_users_and_nobody_owns_those_of_an_issuer() -> None:
    assert [owner_of(user) for user in ("shop", "shop/u1", "oidc/u1")] == [
        "shop",
        "shop",
        "oidc/u1",
    ]


def test_slow_receivers_are_told_apart_by_their_origin() -> None:
    assert receiver_of("https://a.example:443/x?y=z") == "https://a.example:443"
