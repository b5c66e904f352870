"""The console as operators use it: a real browser, a gateway at work, nothing but clicks."""

import asyncio
import csv
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Dialog, Page, Request, Route, expect

from tests.support.browser import (
    DESKTOP,
    PHONE,
    Complaints,
    answered_after,
    drawn,
    opened_page,
    serious_faults,
    serving_pages,
)
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, Sandbox

VIEWS = [
    *("overview", "jobs", "users", "plans", "keys", "usage", "prices"),
    *("shadow", "deliveries", "audit"),
]


@pytest.fixture
async def site(sqlite_url: str) -> AsyncIterator[str]:
    """Serve to whoever names pictures that are names alone."""
    async with serving_pages(sqlite_url, inspect_media="off") as url:
        yield url


@asynccontextmanager
async def signed_in(
    browser: Browser, site: str, *, viewport: dict[str, int] = DESKTOP, allow: str = "422"
) -> AsyncIterator[Page]:
    """Open the console; at the end nothing may have been said against it but what `allow` is."""
    async with opened_page(browser, viewport=viewport) as page:
        complaints = Complaints()
        complaints.listen(page)
        await page.goto(f"{site}/console")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield page
        # A browser reports refused calls by itself; the page shows them in words.
        assert [said for said in complaints.heard if not re.search(allow, said)] == []


def client(site: str, token: str = ADMIN_TOKEN) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    # To read the certificates that nobody asks for takes 20 ms.
    return httpx.AsyncClient(base_url=site, headers=headers, timeout=60, verify=False)


async def key_of(site: str, user: str) -> str:
    async with client(site) as http:
        await http.post("/v1/admin/users", json={"id": user})
        made = await http.post("/v1/admin/keys", json={"user": user, "name": "test"})
        key: str = made.json()["key"]
        return key


async def submit(http: httpx.AsyncClient, words: str, **more: Any) -> str:
    picture = "https://example.com/a.png"
    given = {"prompt": f"a boat {words}", "first_frame_image_url": picture, "duration": 5}
    answer = await http.post("/v1/jobs", json={"model": SEEDANCE, "input": given, **more})
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    return job


async def submit_once(site: str, key: str, words: str, **more: Any) -> str:
    async with client(site, key) as http:
        return await submit(http, words, **more)


async def view(page: Page, name: str) -> None:
    await page.get_by_role("navigation").get_by_role("link", name=name).click()
    await expect(page.locator("main h1")).to_be_visible()


async def make_plan(page: Page) -> None:
    """Make the plan `free`, after a mistake that is told at its field."""
    await view(page, "Plans")
    await page.get_by_role("button", name="New plan").click()
    form = page.get_by_role("dialog")
    await expect(form.get_by_label("Name")).to_be_focused()
    await page.keyboard.type("free")
    await form.get_by_label("Jobs per day", exact=True).fill("many")
    await form.get_by_role("button", name="Make plan").click()
    wrong = form.get_by_label("Jobs per day", exact=True)
    await expect(wrong).to_have_attribute("aria-invalid", "true")
    await expect(form.locator("#limit-jobs_per_day-errors")).to_contain_text("whole number")
    await wrong.fill("10")
    await form.get_by_label("Spend per day, $", exact=True).fill("0.10")
    await form.get_by_label("Spend per day, $: mode").select_option("shadow")
    await form.get_by_role("button", name="Make plan").click()
    plans = page.get_by_role("table", name="Plans")
    await expect(plans).to_contain_text("Spend per day: $0.10 (shadow)")


async def test_a_plan_a_user_and_a_key_are_made_and_the_secret_is_shown_once(
    site: str, browser: Browser
) -> None:
    async with signed_in(browser, site) as page:
        await make_plan(page)
        form = page.get_by_role("dialog")
        await view(page, "Users")
        await page.get_by_role("button", name="New user").click()
        await form.get_by_label("Id").fill("bob@example.com")
        await form.get_by_label("Plan").select_option("free")
        await form.get_by_role("button", name="Make user").click()
        await page.get_by_role("link", name="bob@example.com").click()
        await expect(form.get_by_role("meter", name="jobs per day")).to_be_visible()
        await form.get_by_role("button", name="New key").click()
        making = page.get_by_role("dialog", name="New key", exact=True)
        await making.get_by_label("Name").fill("ci")
        await making.get_by_role("button", name="Make key").click()
        shown = page.get_by_label("Secret of the key")
        await expect(shown).to_have_value(re.compile("rcg_"))
        secret = await shown.input_value()
        async with client(site) as http:
            line = {"model": SEEDANCE, "base_price_usd": "0.05", "price_unit": "second"}
            await http.put("/v1/admin/prices", json={"prices": [line]})
        await submit_once(site, secret, "sandbox:slow=60")
        await page.keyboard.press("Escape")
        await expect(shown).to_have_count(0)
        kept = "[JSON.stringify(localStorage), location.href, document.body.innerHTML].join()"
        assert secret not in str(await page.evaluate(kept))
        assert ADMIN_TOKEN not in str(await page.evaluate(kept))
        # What the job holds shows by itself, and what the shadow limit would have refused.
        await expect(page.get_by_text("1 held")).to_be_visible()
        await expect(page.get_by_text("over what it would have let through")).to_be_visible()
        assert await serious_faults(page) == []
        await page.get_by_role("link", name="Manage keys").click()
        await page.get_by_role("button", name="Rotate ci").click()
        await page.get_by_role("button", name="Make new secret").click()
        await expect(shown).to_have_value(re.compile("rcg_"))
        assert await shown.input_value() != secret
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Revoke ci").click()
        await page.get_by_role("button", name="Revoke key").click()
        await expect(page.get_by_role("table", name="Keys")).to_contain_text("revoked")
        await view(page, "Audit log")
        for action in ("plan.created", "user.created", "key.created"):
            await expect(page.get_by_role("cell", name=action)).to_be_visible()


async def test_what_was_refused_in_a_long_form_comes_into_view(site: str, browser: Browser) -> None:
    async with signed_in(browser, site, viewport=PHONE) as page:
        await view(page, "Plans")
        await page.get_by_role("button", name="New plan").click()
        form = page.get_by_role("dialog")
        wrong = form.get_by_label("Jobs per day", exact=True)
        await wrong.fill("many")
        await form.get_by_label("Name").fill("free")
        mode = form.get_by_label("Jobs per day: mode")
        before = await mode.bounding_box()
        await form.get_by_role("button", name="Make plan").click()
        await expect(wrong).to_be_focused()
        await expect(wrong).to_be_in_viewport(ratio=1)
        after = await mode.bounding_box()
        assert before
        assert after
        assert after["width"] == before["width"]  # what is said needs no room of others


async def test_what_another_operator_changed_meanwhile_stays(site: str, browser: Browser) -> None:
    await key_of(site, "alice")
    async with client(site) as http, signed_in(browser, site) as page:
        plan = {"name": "free", "limits": {"jobs_per_day": {"limit": 1}}}
        await http.post("/v1/admin/plans", json=plan)
        await view(page, "Plans")
        await page.get_by_role("button", name="Edit free").click()
        form = page.get_by_role("dialog")
        await form.get_by_label("Time zone").fill("Europe/Berlin")
        await form.get_by_label("Jobs per month", exact=True).fill("500")
        theirs = {"models": [SEEDANCE], "limits": {"jobs_per_day": {"limit": 20}}}
        await http.patch("/v1/admin/plans/free", json=theirs)
        await form.get_by_role("button", name="Save").click()
        await expect(form).to_have_count(0)
        kept = (await http.get("/v1/admin/plans/free")).json()
        assert (kept["timezone"], kept["models"]) == ("Europe/Berlin", [SEEDANCE])
        limits = {name: each["limit"] for name, each in kept["limits"].items()}
        assert limits == {"jobs_per_day": 20, "jobs_per_month": 500}


async def test_a_limit_that_is_typed_anew_keeps_its_mode(site: str, browser: Browser) -> None:
    async with client(site) as http, signed_in(browser, site) as page:
        shadow = {"limit": 10, "mode": "shadow"}
        limits = {"jobs_per_day": shadow, "jobs_per_month": shadow}
        await http.post("/v1/admin/plans", json={"name": "free", "limits": limits})
        await view(page, "Plans")
        await page.get_by_role("button", name="Edit free").click()
        form = page.get_by_role("dialog")
        amount = form.get_by_label("Jobs per day", exact=True)
        mode = form.get_by_label("Jobs per day: mode")
        await amount.clear()
        await expect(mode).to_be_disabled()
        await amount.press_sequentially("20")
        await expect(mode).to_have_value("shadow")
        await form.get_by_label("Jobs per month", exact=True).clear()
        await form.get_by_role("button", name="Save").click()
        await expect(form).to_have_count(0)
        kept = (await http.get("/v1/admin/plans/free")).json()["limits"]
        assert kept == {"jobs_per_day": {"limit": 20, "mode": "shadow"}}


async def test_prices_that_another_operator_changed_meanwhile_are_not_overwritten(
    site: str, browser: Browser
) -> None:
    line = {"model": SEEDANCE, "base_price_usd": "0.05", "price_unit": "second", "when": {}}
    async with client(site) as http, signed_in(browser, site) as page:
        await http.put("/v1/admin/prices", json={"prices": [line]})
        await view(page, "Prices")
        await page.get_by_label("Line 1: price").fill("0.06")
        theirs = [line, line | {"when": {"resolution": "1080p"}, "base_price_usd": "0.09"}]
        await http.put("/v1/admin/prices", json={"prices": theirs})
        await page.get_by_role("button", name="Save prices").click()
        await expect(page.get_by_role("alert")).to_contain_text("Another operator")
        kept = await http.get("/v1/admin/prices")
        assert kept.json()["prices"] == theirs
        await page.reload()
        await page.get_by_label("Line 1: price").fill("0.06")
        for _ in range(2):  # what one saves oneself is nobody else's
            await page.get_by_role("button", name="Save prices").click()
            await expect(page.get_by_text("Saved.")).to_be_visible()
            await page.get_by_label("Line 2: price").fill("0.10")


async def test_a_price_that_is_typed_while_others_are_saved_stays(
    site: str, browser: Browser
) -> None:
    under_way = asyncio.Event()
    line = {"model": SEEDANCE, "base_price_usd": "0.05", "price_unit": "second"}
    async with client(site) as http, signed_in(browser, site) as page:
        await http.put("/v1/admin/prices", json={"prices": [line]})
        await view(page, "Prices")
        price, save = page.get_by_label("Line 1: price"), page.get_by_role("button", name="Save")
        await price.fill("0.060")
        await page.route("**/v1/admin/prices", answered_after(under_way))
        await save.click()
        await expect(save).to_be_disabled()
        await price.fill("0.070")
        under_way.set()
        await expect(save).to_be_enabled()
        await drawn(page)
        assert await price.input_value() == "0.070"
        assert await page.get_by_text("Saved.").count() == 0
        await save.click()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        kept = (await http.get("/v1/admin/prices")).json()["prices"]
        assert [each["base_price_usd"] for each in kept] == ["0.070"]
        await page.get_by_role("button", name="Add a line").click()
        await expect(page.get_by_text("Saved.")).to_have_count(0)


async def test_prices_that_are_not_saved_yet_outlive_a_look_elsewhere(
    site: str, browser: Browser
) -> None:
    line = {"model": SEEDANCE, "base_price_usd": "0.05", "price_unit": "second"}
    async with client(site) as http, signed_in(browser, site) as page:
        await http.put("/v1/admin/prices", json={"prices": [line]})
        await view(page, "Prices")
        price = page.get_by_label("Line 1: price")
        await price.fill("0.06")
        await expect(page.get_by_text("Not saved yet.")).to_be_visible()
        await view(page, "Usage")
        await view(page, "Prices")
        await expect(price).to_have_value("0.06")
        await expect(page.get_by_text("Not saved yet.")).to_be_visible()
        asked: list[str] = []

        async def leave(dialog: Dialog) -> None:
            asked.append(dialog.type)
            await dialog.accept()

        page.on("dialog", leave)
        await page.reload()
        assert asked == ["beforeunload"]
        await expect(price).to_have_value("0.05")

        await price.fill("0.07")
        await page.get_by_role("button", name="Save prices").click()
        await expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        theirs = [line | {"base_price_usd": "0.08"}]
        await http.put("/v1/admin/prices", json={"prices": theirs})
        await view(page, "Usage")
        await view(page, "Prices")
        await expect(price).to_have_value("0.08")


async def test_a_key_ends_when_it_is_told_to_and_not_when_it_is_renamed(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with client(site) as http, signed_in(browser, site) as page:
        key = {"user": "alice", "name": "ci", "expires_at": "2127-03-01T12:34:56.000Z"}
        made = (await http.post("/v1/admin/keys", json=key)).json()
        await view(page, "Keys")
        await page.get_by_role("button", name="Edit ci").click()
        form = page.get_by_role("dialog")
        await form.get_by_label("Name").fill("nightly")
        await form.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Edit nightly").click()
        kept = await one_key(http, made["id"])
        assert (kept["name"], kept["expires_at"]) == ("nightly", key["expires_at"])

        # A year of five digits is quickly typed.
        await form.get_by_label("Expires").fill("21277-03-01T12:34")
        await form.get_by_role("button", name="Save").click()
        await expect(form.locator("#key-expires-errors")).to_contain_text("RFC 3339")
        await form.get_by_label("Expires").fill("2128-03-01T12:34")
        await form.get_by_role("button", name="Save").click()
        await expect(form).to_have_count(0)
        assert (await one_key(http, made["id"]))["expires_at"].startswith("2128-03-01")


async def test_a_key_that_acts_for_nobody_any_more_gives_up_its_plan(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with client(site) as http, signed_in(browser, site) as page:
        await http.post("/v1/admin/plans", json={"name": "free"})
        key = {"user": "alice", "name": "shop", "scopes": ["jobs:read", "act_as"], "plan": "free"}
        made = (await http.post("/v1/admin/keys", json=key)).json()
        await view(page, "Keys")
        await page.get_by_role("button", name="Edit shop").click()
        form = page.get_by_role("dialog")
        await form.get_by_label("act_as").uncheck()
        await form.get_by_label("act_as").check()
        await expect(form.get_by_label("Plan of the users")).to_have_value("free")
        await form.get_by_label("act_as").uncheck()
        await form.get_by_role("button", name="Save").click()
        await expect(form).to_have_count(0)
        kept = await one_key(http, made["id"])
        assert (kept["scopes"], kept["plan"]) == (["jobs:read"], None)


async def test_a_key_of_a_disabled_user_is_not_said_to_be_active(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        await page.goto(f"{site}/console#/users?user=alice")
        drawer = page.get_by_role("dialog", name="alice", exact=True)
        await expect(drawer.get_by_role("listitem")).to_contain_text("· active")
        await drawer.get_by_role("button", name="Edit").click()
        form = page.get_by_role("dialog", name="Edit alice")
        await form.get_by_label("Disabled").check()
        await form.get_by_role("button", name="Save").click()
        await expect(drawer.get_by_role("listitem")).to_contain_text("· user disabled")
        await drawer.get_by_role("link", name="Manage keys").click()
        row = page.get_by_role("table", name="Keys").get_by_role("row", name="alice")
        await expect(row.get_by_role("cell", name="user disabled", exact=True)).to_be_visible()


async def test_whose_key_is_revoked_is_told_where_two_have_one_name(
    site: str, browser: Browser
) -> None:
    for user in ("alice", "bob"):
        await key_of(site, user)
    async with signed_in(browser, site) as page:
        await view(page, "Keys")
        for act in ("Revoke", "Rotate"):
            row = page.get_by_role("table", name="Keys").get_by_role("row", name="bob")
            await row.get_by_role("button", name=act).click()
            asked = page.get_by_role("dialog", name=f"{act} test?")
            await expect(asked.get_by_text(re.compile("key_.* bob"))).to_be_visible()
            await asked.get_by_role("button", name="Keep as it is").click()


async def test_what_can_be_done_with_a_row_is_in_view_on_every_width(
    site: str, browser: Browser
) -> None:
    async with client(site) as http:
        await http.post("/v1/admin/plans", json={"name": "free", "models": [SEEDANCE]})
    await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        for name, acts in (("Keys", ("Edit", "Rotate", "Revoke")), ("Plans", ("Edit", "Delete"))):
            await view(page, name)
            table = page.get_by_role("table", name=name)
            for width in (1280, 1024, 800, 390):
                await page.set_viewport_size({"width": width, "height": 800})
                for act in acts:
                    button = table.get_by_role("button", name=act)
                    await expect(button).to_be_in_viewport(ratio=1)


async def one_key(http: httpx.AsyncClient, key_id: str) -> dict[str, Any]:
    listed: list[dict[str, Any]] = (await http.get("/v1/admin/keys?user=alice")).json()["data"]
    [found] = [key for key in listed if key["id"] == key_id]
    return found


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


@pytest.mark.parametrize(("theme", "viewport"), [("light", PHONE), ("dark", DESKTOP)])
async def test_every_view_is_usable_by_everybody(
    site: str, browser: Browser, theme: str, viewport: dict[str, int]
) -> None:
    await submit_once(site, await key_of(site, "alice"), "sandbox:instant")
    async with client(site) as http:
        limits = {"jobs_per_day": {"limit": 1}}
        await http.post("/v1/admin/plans", json={"name": "free", "limits": limits})
    async with signed_in(browser, site, viewport=viewport) as page:
        await page.evaluate(f"localStorage.setItem('theme', '{theme}')")
        await page.reload()
        for name in VIEWS:
            await page.goto(f"{site}/console#/{name}")
            await expect(page.locator(f'nav a[href="#/{name}"][aria-current]')).to_be_visible()
            await page.wait_for_load_state("networkidle")
            assert await serious_faults(page) == [], name
            wider = "document.documentElement.scrollWidth - innerWidth"
            assert await page.evaluate(wider) <= 0, name


async def test_a_long_list_is_drawn_as_far_as_it_is_seen(site: str, browser: Browser) -> None:
    key = await key_of(site, "alice")
    async with client(site) as http:
        await http.put("/v1/admin/dispatch", json={"paused": True})
    async with client(site, key) as http:
        await asyncio.gather(*(submit(http, f"take {n}") for n in range(130)))
    async with signed_in(browser, site) as page:
        await view(page, "Jobs")
        table = page.get_by_role("table", name="Jobs")
        await expect(table).to_have_attribute("aria-rowcount", "-1")
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(table).to_have_attribute("aria-rowcount", "131")
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(table.locator('tr[aria-rowindex="131"]')).to_be_visible()
        assert await table.locator("tbody tr").count() < 100
        await page.get_by_label("Status").select_option("failed")
        await expect(page.get_by_text("No job matches.")).to_be_visible()


async def test_the_list_of_jobs_tells_who_and_how_much_on_every_width(
    site: str, browser: Browser
) -> None:
    await put_dear_price(site)
    await submit_once(site, await key_of(site, "campaigns"), "sandbox:slow=60")
    async with signed_in(browser, site) as page:
        await view(page, "Jobs")
        for width in (1280, 1024, 800):
            await page.set_viewport_size({"width": width, "height": 800})
            for shown in ("$1,234,567.89", "campaigns"):
                cell = page.get_by_role("cell", name=shown, exact=True)
                await expect(cell).to_be_visible()
                assert await cell.evaluate("e => e.scrollWidth <= e.clientWidth"), (width, shown)


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


async def test_what_is_typed_into_a_filter_stays_while_the_list_is_read_anew(
    site: str, browser: Browser
) -> None:
    async with signed_in(browser, site) as page:
        await submit_once(site, await key_of(site, "alice"), "sandbox:instant")
        await page.clock.install()
        await page.reload()
        await view(page, "Jobs")
        await expect(page.get_by_role("table", name="Jobs")).to_contain_text("alice")
        user = page.get_by_label("User", exact=True)
        await user.press_sequentially("bo")
        async with page.expect_response("**/v1/admin/jobs?*") as answered:
            await page.clock.run_for(6000)
        await (await answered.value).finished()
        await page.clock.run_for(1000)
        await user.press_sequentially("b")
        await user.press("Enter")
        await expect(page.get_by_text("No job matches.")).to_be_visible()
        await expect(page).to_have_url(re.compile("user=bob$"))
        await page.get_by_role("link", name="Clear filters").click()
        await expect(user).to_have_value("")


async def test_back_leaves_a_view_whose_drawer_was_closed(site: str, browser: Browser) -> None:
    await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        here = re.compile(r"#/users$")
        drawer = page.get_by_role("dialog", name="alice", exact=True)
        await view(page, "Users")
        for _ in "12":
            await page.get_by_role("link", name="alice").click()
            await expect(drawer).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(page).to_have_url(here)
        # Back closes a drawer as well, and what was closed can be opened by going forward.
        await page.go_forward()
        await expect(drawer).to_be_visible()
        await page.go_back()
        await expect(drawer).to_have_count(0)
        await page.go_back()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()

        # One that was opened elsewhere leaves its list behind, and that leads back there.
        await page.goto(f"{site}/console#/users?user=alice")
        await expect(drawer).to_be_visible()
        await drawer.get_by_role("link", name="usage").click()
        await expect(page.get_by_role("heading", name="Usage", exact=True)).to_be_visible()
        await page.go_back()
        await drawer.get_by_role("button", name="Close").click()
        await expect(page).to_have_url(here)
        await page.go_back()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def test_the_keyboard_goes_on_where_a_saved_dialog_was_opened(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with client(site) as http, signed_in(browser, site) as page:
        await http.post("/v1/admin/plans", json={"name": "free"})
        await view(page, "Plans")
        edit = page.get_by_role("button", name="Edit free")
        await edit.press("Enter")
        form = page.get_by_role("dialog", name="Edit free")
        await form.get_by_label("Jobs per day", exact=True).fill("9")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Jobs per day: 9")).to_be_visible()
        await expect(edit).to_be_focused()

        await page.goto(f"{site}/console#/users?user=alice")
        edit = page.get_by_role("button", name="Edit", exact=True)
        await edit.press("Enter")
        await page.get_by_role("dialog", name="Edit alice").get_by_label("Name").fill("Alice")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog").get_by_text("Alice", exact=True)).to_be_visible()
        await expect(edit).to_be_focused()


async def test_the_keyboard_goes_on_at_the_switch_that_takes_the_place_of_another(
    site: str, browser: Browser
) -> None:
    async with signed_in(browser, site) as page:
        pause, resume = "Pause sending", "Resume sending"
        for act, other in ((pause, resume), (resume, pause)):
            await page.get_by_role("button", name=act).press("Enter")
            await page.get_by_role("dialog").get_by_role("button", name=act).press("Enter")
            await expect(page.get_by_role("button", name=other)).to_be_focused()


async def test_text_is_selected_beyond_a_drawer_that_a_click_outside_closes(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        await page.goto(f"{site}/console#/users?user=alice")
        drawer = page.get_by_role("dialog", name="alice")
        words = drawer.get_by_text("Nothing is limited")
        await words.scroll_into_view_if_needed()
        box = await words.bounding_box()
        assert box
        middle = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + 100, middle)
        await page.mouse.down()
        await page.mouse.move(20, middle, steps=4)
        await page.mouse.up()
        await drawn(page)
        assert "Nothing is" in await page.evaluate("String(getSelection())")  # in any font
        await expect(drawer).to_be_visible()
        await page.mouse.click(20, middle)
        await expect(page).to_have_url(re.compile(r"#/users$"))


async def test_who_did_something_with_a_row_far_down_stays_there(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    rest = asyncio.Event()
    async with client(site) as http:
        for n in range(120):
            await http.post("/v1/admin/keys", json={"user": "alice", "name": f"key {n}"})
    async with signed_in(browser, site) as page:
        await view(page, "Keys")
        rows = page.get_by_role("table", name="Keys").locator("tbody tr")
        await expect(rows).to_have_count(100)
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(rows).to_have_count(121)
        await page.get_by_role("button", name="Edit key 0", exact=True).click()
        before = await page.evaluate("scrollY")
        await page.route("**/v1/admin/keys?*cursor=*", answered_after(rest))
        form = page.get_by_role("dialog")
        await form.get_by_label("Name").fill("nightly")
        async with page.expect_request("**/v1/admin/keys?*cursor=*"):
            await form.get_by_role("button", name="Save").click()
        await drawn(page)
        assert (await rows.count(), await page.evaluate("scrollY")) == (121, before)
        rest.set()
        await expect(page.get_by_role("button", name="Edit nightly")).to_be_in_viewport()
        assert (await rows.count(), await page.evaluate("scrollY")) == (121, before)


async def test_every_plan_can_be_chosen(site: str, browser: Browser) -> None:
    names = [f"plan-{n:03}" for n in range(101)]
    async with client(site) as http:
        for name in names:
            await http.post("/v1/admin/plans", json={"name": name})
        await http.post("/v1/admin/users", json={"id": "alice", "plan": names[-1]})
    async with signed_in(browser, site) as page:
        await page.goto(f"{site}/console#/users?user=alice")
        await page.get_by_role("button", name="Edit").click()
        form = page.get_by_role("dialog", name="Edit alice")
        await expect(form.get_by_label("Plan")).to_have_value(names[-1])
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)  # closed ones are drawn a moment more
        await page.get_by_label("Plan").select_option(names[-1])
        await expect(page).to_have_url(re.compile(names[-1]))


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


async def put_dear_price(site: str) -> None:
    """Let five seconds cost $1,234,567.89."""
    async with client(site) as http:
        line = {"model": SEEDANCE, "base_price_usd": "246913.578", "price_unit": "second"}
        await http.put("/v1/admin/prices", json={"prices": [line]})


async def test_a_list_that_cannot_be_read_says_so_where_one_looks(
    site: str, browser: Browser
) -> None:
    async with client(site) as http:
        await asyncio.gather(
            *(http.post("/v1/admin/users", json={"id": f"user-{n}"}) for n in range(60))
        )
    async with signed_in(browser, site, allow="ERR_FAILED") as page:
        await view(page, "Users")
        rows = page.get_by_role("table", name="Users").locator("tbody tr")
        await expect(rows).to_have_count(60)
        await page.route("**/v1/admin/users?*", lambda route: route.abort())
        await page.get_by_role("button", name="New user").click()
        await page.get_by_role("dialog").get_by_label("Id").fill("one-more")
        await page.get_by_role("button", name="Make user").click()
        await expect(page.get_by_role("alert")).to_be_in_viewport()
        await expect(rows).to_have_count(60)

        # What was read with another filter is not what this one finds.
        await page.goto(f"{site}/console#/users?plan=free")
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(rows).to_have_count(0)
        await page.unroute("**/v1/admin/users?*")
        # At once: by itself the page would soon have tried again, and the button be gone.
        await page.get_by_role("button", name="Try again").evaluate("button => button.click()")
        await expect(page.get_by_text("No users yet.")).to_be_visible()

        # Nor are keys that cannot be read the same as none.
        await page.route("**/v1/admin/keys?*", lambda route: route.abort())
        await page.goto(f"{site}/console#/users?user=user-1")
        await expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


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


async def test_a_name_that_is_cut_is_told_whole_on_hover(site: str, browser: Browser) -> None:
    user, name = "u" * 128, "key " * 25
    async with client(site) as http:
        await http.post("/v1/admin/users", json={"id": user})
        await http.post("/v1/admin/keys", json={"user": user, "name": name})
    async with signed_in(browser, site) as page:
        await view(page, "Keys")
        table = page.get_by_role("table", name="Keys")
        for whole in (name, user):
            await expect(table.get_by_title(whole, exact=True)).to_be_visible()
        await view(page, "Audit log")
        action = page.get_by_role("cell", name="key.created")
        await expect(action).to_have_attribute("title", "key.created")


async def test_a_user_with_very_many_keys_is_said_to_have_more(site: str, browser: Browser) -> None:
    await key_of(site, "alice")
    async with client(site) as http:
        for n in range(50):
            await http.post("/v1/admin/keys", json={"user": "alice", "name": f"key {n}"})
    async with signed_in(browser, site) as page:
        await page.goto(f"{site}/console#/users?user=alice")
        drawer = page.get_by_role("dialog", name="alice", exact=True)
        await expect(drawer.get_by_role("listitem")).to_have_count(50)
        await expect(drawer.get_by_text("and more")).to_be_visible()


async def test_one_thing_has_one_name(site: str, browser: Browser) -> None:
    async with client(site) as http:
        limits = {"pending_jobs": {"limit": 5}}
        await http.post("/v1/admin/users", json={"id": "alice", "limits": limits})
    async with signed_in(browser, site) as page:
        await view(page, "Shadow findings")
        await expect(page.get_by_role("heading", name="Shadow findings")).to_be_visible()
        await page.goto(f"{site}/console#/users?user=alice")
        await expect(page.get_by_role("meter", name="pending jobs")).to_be_visible()
        await page.get_by_role("button", name="Edit").click()
        await expect(page.get_by_label("Pending jobs", exact=True)).to_have_value("5")


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


async def test_long_names_and_large_amounts_are_shown_whole(site: str, browser: Browser) -> None:
    user = "u" * 128
    async with client(site) as http:
        limits = {"spend_usd_per_month": "99999999.99", "output_seconds_per_month": 75_000_000}
        given = {name: {"limit": most} for name, most in limits.items()}
        await http.post("/v1/admin/users", json={"id": user, "limits": given})
    async with signed_in(browser, site, viewport=PHONE) as page:
        await page.goto(f"{site}/console#/users?user={user}")
        drawer = page.get_by_role("dialog", name=user)
        await expect(drawer.get_by_text("$99,999,999.99 of $99,999,999.99 left")).to_be_visible()
        await expect(drawer.get_by_text("75,000,000 of 75,000,000 left")).to_be_visible()
        fits = "e => e.scrollWidth <= e.clientWidth"  # once the drawer has come to rest
        for shown in (drawer.get_by_role("heading", name=user), drawer.get_by_text("Close")):
            await page.wait_for_function(fits, arg=await shown.element_handle(), timeout=60_000)
        await drawer.get_by_role("button", name="Edit").click()
        typed = page.get_by_label("Spend per month, $", exact=True)
        assert await typed.evaluate(fits)


async def test_names_as_long_as_they_may_be_leave_room_for_what_stands_beside_them(
    site: str, browser: Browser
) -> None:
    await submit_once(site, await key_of(site, "u" * 128), "sandbox:instant")
    limits = {"output_seconds_per_month": {"limit": 300_000, "mode": "shadow"}}
    async with client(site) as http:
        plan = {"name": "p" * 64, "models": [SEEDANCE], "limits": limits}
        await http.post("/v1/admin/plans", json=plan)
    async with signed_in(browser, site) as page:
        await view(page, "Plans")
        cell = page.get_by_role("cell", name=re.compile("Output seconds per month: .*shadow"))
        for width in (1280, 1024, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await cell.evaluate("e => e.scrollWidth <= e.clientWidth"), width
        await view(page, "Users")
        plans = page.get_by_role("combobox", name="Plan")
        await expect(plans).to_contain_text("ppp")
        await expect(plans).to_be_in_viewport(ratio=1)
        await page.set_viewport_size({"width": 800, "height": 800})
        await view(page, "Usage")
        await expect(page.get_by_role("link", name="uuu")).to_be_visible()
        await expect(page.get_by_role("columnheader", name="Held")).to_be_visible()
        table = page.get_by_role("group", name="Usage by user")
        assert await table.evaluate("e => e.scrollWidth <= e.clientWidth")
