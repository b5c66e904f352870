"""The remote parties, each with an HTTP client and connections of its own, closed at the end."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from app.auth.oidc.keys import IssuerKeys
from app.bootstrap.base import Base
from app.net.clients import trusted
from app.net.guard import guarded
from app.net.remote_file import RemoteFiles
from app.sandbox import SandboxConfig, running_sandbox
from app.upstream.accounts import DEFAULT, Account
from app.upstream.client import UpstreamClient
from app.upstream.outputs import OutputClient
from app.webhooks.sender import WebhookSender

# The sandbox takes any token: it gets a made-up one, and the real one is sent nowhere.
_SANDBOX_ACCOUNT = Account(DEFAULT, SecretStr("sandbox-token"))
_OUTPUT_TIMEOUT = timedelta(seconds=30)
_OUTPUT_KEEPALIVE = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remotes:
    """`upstream` has a client for each account; these share their connections.

    `outputs` fetches outputs for clients, `copies` fetches them for the archive.
    """

    accounts: Sequence[Account]
    upstream: Mapping[str, UpstreamClient]
    outputs: OutputClient
    copies: OutputClient
    media: RemoteFiles
    receivers: WebhookSender
    issuer_keys: IssuerKeys | None


@asynccontextmanager
async def opened_remotes(base: Base) -> AsyncIterator[Remotes]:
    settings, configs = base.settings, base.configs
    async with (
        _runcomfy(base) as (url, accounts),
        # Idle connections for submits are dropped early: on one that upstream has just closed, a
        # submit would look as if its answer had been lost.
        aclosing(
            trusted(
                timeout=configs.dispatcher.submit_timeout,
                connections=configs.dispatcher.slots,
                keepalive=timedelta(seconds=3),
            )
        ) as submits,
        aclosing(
            trusted(
                timeout=configs.poller.timeout,
                connections=configs.poller.polls_at_once,
                keepalive=timedelta(seconds=30),
            )
        ) as reads,
        aclosing(
            trusted(timeout=_OUTPUT_TIMEOUT, connections=500, keepalive=_OUTPUT_KEEPALIVE)
        ) as outputs,
        aclosing(
            trusted(timeout=_OUTPUT_TIMEOUT, connections=8, keepalive=_OUTPUT_KEEPALIVE)
        ) as copies,
        aclosing(guarded(deadline=configs.inspector.deadline, reach=configs.media_reach)) as media,
        aclosing(
            guarded(deadline=configs.deliverer.timeout, reach=configs.webhook_reach)
        ) as receivers,
        _issuer_keys(base) as issuer_keys,
    ):
        # Clients for users' URLs are not traced: they would send the trace's id there.
        base.tracing.watch(clients=(submits, reads), engines=base.database.watch)
        yield Remotes(
            accounts=accounts,
            upstream={
                account.name: UpstreamClient(
                    base_url=url,
                    token=account.token,
                    submits=submits,
                    reads=reads,
                    metrics=base.metrics,
                    clock=base.clock,
                    submit_retry_statuses=frozenset(settings.submit_retry_statuses),
                )
                for account in accounts
            },
            outputs=OutputClient(client=outputs, hosts=settings.output_hosts, upstream=url),
            copies=OutputClient(client=copies, hosts=settings.output_hosts, upstream=url),
            media=RemoteFiles(media),
            receivers=WebhookSender(client=receivers, clock=base.clock),
            issuer_keys=issuer_keys,
        )


@asynccontextmanager
async def _runcomfy(base: Base) -> AsyncIterator[tuple[str, Sequence[Account]]]:
    """Yield upstream's URL and our accounts there; the sandbox runs inside this context."""
    settings = base.settings
    if not settings.is_sandboxed:
        yield settings.upstream_url, settings.api_token
        return
    database = settings.sqlite_path
    assert database is not None
    config = SandboxConfig(
        directory=database.with_name(f"{database.name}.sandbox"), speed=settings.sandbox_speed
    )
    async with running_sandbox(config, clock=base.clock) as url:
        yield url, [_SANDBOX_ACCOUNT]


@asynccontextmanager
async def _issuer_keys(base: Base) -> AsyncIterator[IssuerKeys | None]:
    if base.settings.oidc is None:
        yield None
        return
    async with aclosing(
        trusted(timeout=timedelta(seconds=5), connections=2, keepalive=timedelta(seconds=3))
    ) as client:
        yield IssuerKeys(issuer=base.settings.oidc.issuer, client=client, clock=base.clock)
