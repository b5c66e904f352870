"""Pictures of the pages for the README, from the demo's data: `make screenshots`.

It starts `gateway demo --keep`, drives Chromium, and writes docs/images/*.png.
"""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, expect

from tests.support.browser import DESKTOP, PHONE, running_browser

IMAGES = Path(__file__).parent / "images"
GATEWAY = Path(sys.executable).with_name("gateway")
LOOKS = (("desktop", "light", DESKTOP), ("desktop", "dark", DESKTOP), ("phone", "light", PHONE))


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    expect.set_options(timeout=60_000)
    async with demo() as told, running_browser() as browser:
        for device, scheme, viewport in LOOKS:
            for name, draw in (("playground", playground), ("console", console)):
                context = await browser.new_context(
                    viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
                )
                page = await context.new_page()
                await draw(page, told)
                await page.screenshot(
                    path=IMAGES / f"{name}-{device}-{scheme}.png", animations="disabled"
                )
                await context.close()


@asynccontextmanager
async def demo() -> AsyncIterator[Mapping[str, str]]:
    process = await asyncio.create_subprocess_exec(
        GATEWAY, "demo", "--keep", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = (await process.stdout.readuntil(b"leaves nothing.\n")).decode()
        yield dict(re.findall(r"^  (Playground|Key|Console|Token) +(\S+)$", said, re.MULTILINE))
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


async def playground(page: Page, told: Mapping[str, str]) -> None:
    await sign_in(page, told["Playground"], told["Key"])
    await page.get_by_role("region", name="History").locator("video").first.wait_for()
    await page.get_by_role("button", name=re.compile("Again with golden hour")).first.click()
    await page.locator(".media-preview").wait_for()
    await page.get_by_role("button", name=re.compile("Open golden hour")).first.click()
    if page.viewport_size == DESKTOP:
        await page.evaluate("scrollTo(0, 0)")
    # Who wants less motion, as these pictures do, starts a film by hand.
    await page.locator(".stage video").evaluate("film => film.play()")
    await page.wait_for_function(
        "() => [...document.querySelectorAll('.stage video')].some(v => v.currentTime > 0.5)"
    )


async def console(page: Page, told: Mapping[str, str]) -> None:
    await sign_in(page, told["Console"], told["Token"])
    await expect(page.get_by_text("everything adds up")).to_be_attached()
    await expect(page.get_by_text(re.compile("^as of"))).to_be_attached()
    await page.wait_for_load_state("networkidle")


async def sign_in(page: Page, url: str, credential: str) -> None:
    await page.goto(url)
    await page.get_by_label(re.compile("key|token", re.IGNORECASE)).fill(credential)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


if __name__ == "__main__":
    asyncio.run(main())
