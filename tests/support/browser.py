"""A real browser on a running gateway; console errors and policy violations of pages fail."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Request, Route, async_playwright

from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.gateway import ADMIN_TOKEN

# Without windows to draw, a page takes two thirds of the CPU.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


@dataclass
class Complaints:
    """What a browser holds against a page: errors, and what its policy blocked."""

    heard: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        page.on(
            "console",
            lambda message: (
                self.heard.append(message.text) if message.type in {"error", "warning"} else None
            ),
        )


@asynccontextmanager
async def serving_pages(database_url: str, **more: Any) -> AsyncIterator[str]:
    """Serve in the background and in real time, with a fast sandbox; yield the URL."""
    settings = explicit_settings(
        database_url=database_url,
        **{
            "upstream_url": "sandbox",
            "admin_token": f"ops:{ADMIN_TOKEN}",
            "sandbox_speed": 4,
            "allow_private_networks": True,
            **more,
        },
    )
    async with running_gateway(settings) as url:
        yield url


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    assert CHROMIUM, "Chromium is missing: run make tools"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened_page(browser: Browser, **look: Any) -> AsyncIterator[Page]:
    """Open a page with storage of its own; routes that still hold answers fail no later test.

    `look` is what a browser's `new_context` takes.
    """
    context = await browser.new_context(**look)
    try:
        page = await context.new_page()
        yield page
        await page.unroute_all(behavior="ignoreErrors")
    finally:
        await context.close()


def answered_after(event: asyncio.Event) -> Callable[[Route], Awaitable[None]]:
    """Make a route that asks the gateway now, but passes the answer on only after the event."""

    async def answer(route: Route) -> None:
        answer = await route.fetch()
        await event.wait()
        await route.fulfill(response=answer)

    return answer


def requests_of(page: Page, part: str) -> list[Request]:
    """Collect the requests that the page makes from now on to addresses with this part."""
    asks: list[Request] = []
    page.on("request", lambda ask: asks.append(ask) if part in ask.url else None)
    return asks


async def drawn(page: Page) -> None:
    """Wait until the page has drawn what it just received."""
    for _ in "12":
        await page.evaluate("new Promise(requestAnimationFrame)")


async def serious_faults(page: Page) -> list[str]:
    """Check accessibility with axe; returns the serious and critical rules that the page breaks."""
    result = await Axe().run(page)
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in result.response["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
