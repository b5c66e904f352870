"""Plans, users, keys and prices: made, changed and ended by nothing but clicks."""

import asyncio
import re
from typing import Any

import httpx
from playwright.async_api import Browser, Dialog, Page, expect

from tests.support.browser import PHONE, answered_after, drawn, serious_faults
from tests.support.console import key_of, signed_in, submit_once, view
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE
from tests.support.served import client


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
        await expect(form.get_by_role("meter", name="Jobs per day")).to_be_visible()
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
        await expect(shown).to_be_visible()  # before that, Escape would mean another dialog
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


async def one_key(http: httpx.AsyncClient, key_id: str) -> dict[str, Any]:
    listed: list[dict[str, Any]] = (await http.get("/v1/admin/keys?user=alice")).json()["data"]
    [found] = [key for key in listed if key["id"] == key_id]
    return found


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
