"""Jobs, traffic, usage and webhooks: what an operator sees of the work, and does about it."""

import asyncio
import csv
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Request, Route, expect

from tests.support.browser import answered_after, drawn, serious_faults, serving_pages
from tests.support.console import key_of, put_dear_price, signed_in, submit_once, view
from tests.support.gateway import SEEDANCE, Sandbox
from tests.support.served import client


async def test_stuck_work_is_found_judged_and_ended(site: str, browser: Browser) -> None:
    key = await key_of(site, "alice")
    job = await submit_once(site, key, "sandbox:lost-answer")
    async with signed_in(browser, site) as page:
        tile = page.get_by_role("link", name=re.compile("submit unknown"))
        await expect(tile).to_contain_text("need a decision")
        await tile.click()
        await page.get_by_role("link", name=re.compile(job)).click()
        drawer = page.get_by_role("dialog", name="Job", exact=True)
        await expect(drawer.get_by_role("list", name="Events")).to_contain_text("submit unknown")
        await expect(drawer.get_by_role("table", name="Ledger")).to_contain_text("hold")
        acts = await drawer.locator("footer button").all_inner_texts()
        assert acts == ["Adopt", "Resubmit", "Settle", "Release", "Fail"]
        assert await serious_faults(page) == []

        await drawer.get_by_role("button", name="Adopt").click()
        asked = page.get_by_role("dialog", name="Adopt this job?")
        await asked.get_by_label("RunComfy's request id").fill("no such thing")
        await asked.get_by_role("button", name="Adopt").click()
        await expect(asked.get_by_text("/request_id")).to_be_visible()
        await asked.get_by_role("button", name="Keep as it is").click()
        await drawer.get_by_role("button", name="Resubmit").click()
        asked = page.get_by_role("dialog", name="Resubmit this job?")
        await expect(asked).to_contain_text("paid twice")
        assert await serious_faults(page) == []
        await asked.get_by_role("button", name="Keep as it is").click()
        await drawer.get_by_role("button", name="Settle").click()
        asked = page.get_by_role("dialog", name="Settle this job?")
        await expect(asked).to_contain_text("is charged to its user")
        await asked.get_by_role("button", name="Settle").click()
        await expect(drawer.get_by_role("status")).to_contain_text("The hold is charged.")
        await expect(drawer.locator(".sheet-body")).to_be_focused()
        await expect(drawer.get_by_role("table", name="Ledger")).to_contain_text("settle")
        await expect(drawer.locator("footer button")).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("No job matches.")).to_be_visible()

        await view(page, "Overview")
        await page.get_by_role("button", name="Pause sending").click()
        await page.get_by_role("dialog").get_by_role("button", name="Pause sending").click()
        await expect(page.get_by_text("An operator paused it.")).to_be_visible()
        await page.get_by_role("button", name="Resume sending").click()
        await page.get_by_role("dialog").get_by_role("button", name="Resume sending").click()
        await expect(page.get_by_text("Sending: on")).to_be_visible()
        await expect(page.get_by_text("everything adds up")).to_be_visible()


async def test_what_was_done_with_a_job_is_no_longer_told_once_it_is_stuck_again(
    site: str, browser: Browser
) -> None:
    job = await submit_once(site, await key_of(site, "alice"), "sandbox:lost-answer")
    async with signed_in(browser, site) as page, client(site) as other:
        await page.goto(f"{site}/console#/jobs?job={job}")
        drawer = page.get_by_role("dialog", name="Job", exact=True)
        await drawer.get_by_role("button", name="Resubmit").click()
        await other.put("/v1/admin/dispatch", json={"paused": True})
        asked = page.get_by_role("dialog", name="Resubmit this job?")
        await asked.get_by_role("button", name="Resubmit").click()
        told = drawer.get_by_text("The job waits to be sent again.")
        await expect(told).to_be_visible()
        await other.put("/v1/admin/dispatch", json={"paused": False})
        await expect(drawer.get_by_role("button", name="Resubmit")).to_be_visible()
        await expect(told).to_have_count(0)


async def test_a_job_shows_its_film_by_whichever_name_the_console_is_reached(
    site: str, browser: Browser
) -> None:
    job = await submit_once(site, await key_of(site, "alice"), "sandbox:instant")
    async with signed_in(browser, site.replace("127.0.0.1", "localhost")) as page:
        await view(page, "Jobs")
        await page.get_by_role("link", name=re.compile(job)).click()
        film = page.get_by_role("dialog").locator("video")
        await expect(film).not_to_have_js_property("readyState", 0)


async def test_accounts_that_send_nothing_are_named_with_the_reason(
    sqlite_url: str, sandbox: Sandbox, browser: Browser
) -> None:
    accounts = {"upstream_url": sandbox.url, "api_token": "first=no-token-of-it,second=nor-this"}
    async with (
        serving_pages(sqlite_url, **accounts, inspect_media="off") as url,
        signed_in(browser, url) as page,
    ):
        await expect(page.get_by_text("Sending: on")).to_be_visible()
        await expect(page.get_by_text("Sending with")).to_have_count(0)
        await submit_once(url, await key_of(url, "alice"), "under way")
        for account in ("first", "second"):
            await expect(page.get_by_text(f"Sending with {account}: paused")).to_be_visible()
        await expect(page.get_by_text("RunComfy refuses the token.")).to_have_count(2)


async def test_what_closed_by_itself_can_be_paused_by_hand(
    sqlite_url: str, sandbox: Sandbox, browser: Browser
) -> None:
    account = {"upstream_url": sandbox.url, "api_token": "no-token-of-it"}
    async with (
        serving_pages(sqlite_url, **account, inspect_media="off") as url,
        signed_in(browser, url) as page,
    ):
        await submit_once(url, await key_of(url, "alice"), "under way")
        await expect(page.get_by_text("RunComfy refuses the token.")).to_be_visible()
        await expect(page.get_by_role("button", name="Resume sending")).to_be_visible()
        await page.get_by_role("button", name="Pause sending").click()
        await page.get_by_role("dialog").get_by_role("button", name="Pause sending").click()
        await expect(page.get_by_text("An operator paused it.")).to_be_visible()
        await expect(page.get_by_role("button", name="Pause sending")).to_have_count(0)


async def test_usage_comes_as_plots_and_file_and_webhooks_go_again(
    site: str, browser: Browser, tmp_path: Path
) -> None:
    key = await key_of(site, "alice")
    await submit_once(site, key, "sandbox:instant", webhook_url="http://127.0.0.1:9/closed")
    async with signed_in(browser, site) as page:
        await view(page, "Prices")
        await page.get_by_role("button", name="Add a line").click()
        await page.get_by_label("Line 1: model").fill(SEEDANCE)
        await page.get_by_label("Line 1: price").fill("cheap")
        await page.get_by_role("button", name="Save prices").click()
        await expect(page.locator("#price-0-errors")).to_contain_text("base_price_usd")
        await expect(page.get_by_label("Line 1: price")).to_be_focused()
        await page.get_by_label("Line 1: price").fill("0.05")
        await page.get_by_role("button", name="Save prices").click()
        await expect(page.get_by_text("Saved.")).to_be_visible()

        await view(page, "Usage")
        await expect(page.get_by_role("img", name=re.compile("spend usd by user"))).to_be_visible()
        await page.get_by_label("By", exact=True).select_option("model")
        await expect(page.get_by_role("table", name="Usage")).to_contain_text(SEEDANCE)
        async with page.expect_download() as started:
            await page.get_by_role("button", name="Download CSV").click()
        download = await started.value
        assert download.suggested_filename == "usage-by-model.csv"
        await download.save_as(tmp_path / "usage.csv")
        (row,) = csv.DictReader((tmp_path / "usage.csv").read_text("utf-8").splitlines())
        assert (row["model"], row["jobs"]) == (SEEDANCE, "1")

        # Of what was refused nothing is known, not that nothing was used.
        await page.get_by_label("From").fill("2127-01-01")
        await expect(page.get_by_role("alert")).to_contain_text("`from` must be before `to`")
        await expect(page.get_by_text("Nothing was used in this time.")).to_have_count(0)
        await page.get_by_label("To (not included)").fill("2127-02-01")
        await expect(page.get_by_text("Nothing was used in this time.")).to_have_count(2)

        await view(page, "Webhooks")
        details = page.get_by_role("button", name=re.compile("Details of msg_"))
        while not await details.count():
            await page.get_by_role("button", name="Refresh").click()
            await page.wait_for_timeout(250)
        await details.click()
        drawer = page.get_by_role("dialog", name="Webhook delivery")
        await drawer.get_by_role("button", name="Send again").click()
        await expect(drawer.get_by_role("status")).to_contain_text("sent again")
        await page.keyboard.press("Escape")

        await view(page, "Overview")
        delays = page.get_by_role("img", name=re.compile("Detection delay by hour"))
        await expect(delays).to_be_visible()


async def test_a_job_that_cost_nothing_is_not_shown_with_a_price(
    site: str, browser: Browser
) -> None:
    await put_dear_price(site)
    key = await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        await submit_once(site, key, "sandbox:fail sandbox:instant")
        await view(page, "Jobs")
        row = page.get_by_role("table", name="Jobs").get_by_role("row", name="alice")
        await expect(row).to_contain_text("failed")
        await expect(row.get_by_role("cell", name="not charged", exact=True)).to_be_visible()
        await expect(row).not_to_contain_text("$")


async def test_the_spend_of_a_day_is_shown_in_one_line(site: str, browser: Browser) -> None:
    await put_dear_price(site)
    await submit_once(site, await key_of(site, "alice"), "sandbox:instant")
    async with signed_in(browser, site) as page:
        await view(page, "Jobs")
        await expect(page.get_by_role("table", name="Jobs")).to_contain_text("completed")
        await view(page, "Overview")
        small, large = (page.get_by_text(shown, exact=True) for shown in ("0.0 %", "$1,234,567.89"))
        await expect(large).to_be_visible()
        for width in (1280, 1024, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            heights = [await each.evaluate("e => e.clientHeight") for each in (small, large)]
            assert heights[0] == heights[1], width
            assert await large.evaluate("e => e.scrollWidth <= e.clientWidth"), width


@pytest.mark.parametrize(
    ("made", "tag", "count"), [("images", "img", 2), ("audio", "audio", 1), ("video", "video", 1)]
)
async def test_what_a_job_made_is_shown_as_what_it_is(
    site: str, browser: Browser, made: str, tag: str, count: int
) -> None:
    words = f"sandbox:instant sandbox:output={made}"
    job = await submit_once(site, await key_of(site, "alice"), words)
    async with signed_in(browser, site) as page:
        await page.goto(f"{site}/console#/jobs?job={job}")
        drawer = page.get_by_role("dialog", name="Job", exact=True)
        await expect(drawer.locator(tag)).to_have_count(count)
        await expect(drawer.locator("img, audio, video")).to_have_count(count)


async def test_a_file_that_is_gone_is_told(site: str, browser: Browser) -> None:
    words = "sandbox:instant sandbox:output-gone"
    job = await submit_once(site, await key_of(site, "alice"), words)
    async with signed_in(browser, site, allow="410") as page:
        await page.goto(f"{site}/console#/jobs?job={job}")
        drawer = page.get_by_role("dialog", name="Job", exact=True)
        await expect(drawer.get_by_text("The video cannot be fetched")).to_be_visible()


async def test_what_is_not_known_is_not_said_to_be_nothing(site: str, browser: Browser) -> None:
    async with signed_in(browser, site, allow="ERR_FAILED") as page:
        await expect(page.get_by_text("none ended in 24 h")).to_have_count(2)
        await page.route("**/v1/admin/overview?*", lambda route: route.abort())
        await page.reload()
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.get_by_text("none ended in 24 h")).to_have_count(0)


async def test_where_nothing_was_used_no_table_is_begun(site: str, browser: Browser) -> None:
    async with signed_in(browser, site) as page:
        await view(page, "Usage")
        await expect(page.get_by_text("Nothing was used in this time.")).to_have_count(2)
        await expect(page.get_by_role("table")).to_have_count(0)


async def test_one_attempt_is_not_told_as_several(site: str, browser: Browser) -> None:
    output = {"job": "job_1", "n": 0, "created_at": "2026-11-22T10:00:00.000Z", "attempts": 1}
    async with signed_in(browser, site) as page:
        await page.route(
            "**/v1/admin/outputs?*",
            lambda route: route.fulfill(json={"data": [output], "next_cursor": None}),
        )
        await page.reload()
        await expect(page.get_by_text("1 attempt to copy it")).to_be_visible()


async def test_what_was_asked_before_a_switch_is_not_what_came_of_it(
    site: str, browser: Browser
) -> None:
    before = asyncio.Event()
    looks = asyncio.Queue[Request]()

    async def answer_late(route: Route) -> None:
        looks.put_nowait(route.request)
        await answered_after(before)(route)

    async with signed_in(browser, site) as page:
        await page.get_by_role("button", name="Pause sending").click()
        await page.route("**/v1/admin/dispatch", answer_late, times=1)
        look = await looks.get()  # it looks every ten seconds
        await page.get_by_role("dialog").get_by_role("button", name="Pause sending").click()
        paused = page.get_by_text("Sending: paused")
        await expect(paused).to_be_visible()
        before.set()
        await look.response()
        await drawn(page)
        assert await paused.is_visible()


async def test_what_was_asked_stays_though_another_operator_acts_meanwhile(
    site: str, browser: Browser
) -> None:
    async with signed_in(browser, site) as page, client(site) as other:
        await page.clock.install()
        await page.reload()
        await page.get_by_role("button", name="Pause sending").click()
        await other.put("/v1/admin/dispatch", json={"paused": True})
        await page.clock.fast_forward("00:10")
        await expect(page.get_by_text("Sending: paused")).to_be_visible()
        question = page.get_by_role("dialog", name="Pause sending?")
        await question.get_by_role("button", name="Pause sending").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert (await other.get("/v1/admin/dispatch")).json()["paused"] is True
