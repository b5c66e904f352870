"""`gateway demo --keep`: a gateway to look around in, with a day behind it, until Ctrl-C."""

import asyncio
import logging
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from app.bootstrap.database import prepare_database
from app.core.clock import SystemClock
from app.core.stopping import stop_signal
from app.demo.day import live_through_a_day
from app.demo.printing import say
from app.demo.receiver import running_receiver
from app.sandbox import require_extra
from app.server import running_gateway
from app.settings import Settings, explicit_settings


async def keep() -> None:
    """Run until a signal tells it to stop; its folder is deleted when the command ends."""
    require_extra()
    # Films that a browser is still fetching are cut off at the end; that need not be logged.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        stopping = asyncio.ensure_future(stop_signal().wait())
        standing = asyncio.ensure_future(_stand(Path(folder)))
        await asyncio.wait({stopping, standing}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if standing.done():
            standing.result()  # it ends by itself only when something is wrong
        standing.cancel()
        with suppress(asyncio.CancelledError):
            await standing


async def _stand(folder: Path) -> None:
    admin_token = secrets.token_urlsafe(32)
    say("Making a day of made-up work; this takes a few seconds ...")
    past = _settings(folder, admin_token=admin_token, sandbox_speed=0.4, archives=False)
    prepare_database(past)
    present = _settings(folder, admin_token=admin_token, sandbox_speed=1.0, archives=True)
    async with running_receiver() as receiver:
        key = await live_through_a_day(
            past, operator=admin_token, receiver=receiver, until=SystemClock().now()
        )
        async with running_gateway(present) as url:
            say(f"""
  Playground  {url}/
  Key         {key}

  Console     {url}/console
  Token       {admin_token}

Its RunComfy is a sandbox: nothing is sent or charged. Ctrl-C stops it and leaves nothing.""")
            await asyncio.get_running_loop().create_future()


def _settings(folder: Path, *, admin_token: str, sandbox_speed: float, archives: bool) -> Settings:
    return explicit_settings(
        upstream_url="sandbox",
        database_url=f"sqlite:///{folder}/gateway.db",
        storage_url=f"file://{folder}/storage",
        archive_outputs=archives,
        admin_token=f"demo:{admin_token}",
        sandbox_speed=sandbox_speed,
        allow_private_networks=True,
    )
