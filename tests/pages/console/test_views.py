"""Every view as operators use it: long lists and names, the keyboard, phones, failed calls."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import (
    DESKTOP,
    PHONE,
    answered_after,
    drawn,
    requests_of,
    serious_faults,
)
from tests.support.console import key_of, put_dear_price, signed_in, submit, submit_once, view
from tests.support.gateway import SEEDANCE
from tests.support.served import client

VIEWS = [
    *("overview", "jobs", "users", "plans", "keys", "usage", "prices"),
    *("shadow", "deliveries", "audit"),
]


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


async def test_an_empty_gateway_says_what_to_do_next(site: str, browser: Browser) -> None:
    async with signed_in(browser, site) as page:
        for name, empty, filtered, filters in (
            ("Jobs", "No job yet. Make a user and a key", "No job matches.", "status=failed"),
            ("Users", "No user yet. New user makes one.", "Nobody is on this plan.", "plan=free"),
            ("Keys", "No key yet. New key makes one", "This user has no key.", "user=bob"),
            ("Webhooks", "No delivery yet.", "No delivery matches.", "state=failed"),
        ):
            await view(page, name)
            await expect(page.get_by_text(empty)).to_be_visible()
            await page.goto(f"{page.url}?{filters}")
            await expect(page.get_by_text(filtered)).to_be_visible()
        await view(page, "Jobs")
        await page.get_by_role("link", name="playground").click()
        await expect(page.get_by_role("heading", name="Make a video")).to_be_visible()


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


async def test_the_longest_status_of_a_job_is_shown_whole_on_a_phone(
    site: str, browser: Browser
) -> None:
    await submit_once(site, await key_of(site, "alice"), "sandbox:lost-answer")
    async with signed_in(browser, site, viewport=PHONE | {"width": 360}) as page:
        await page.goto(f"{site}/console#/jobs?status=submit_unknown")
        cell = page.get_by_role("cell", name="submit unknown")
        await expect(cell).to_be_visible()
        assert await cell.evaluate("e => e.scrollWidth <= e.clientWidth")


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


async def test_the_keyboard_goes_on_in_the_next_row_when_its_own_is_gone(
    site: str, browser: Browser
) -> None:
    line = {"model": SEEDANCE, "base_price_usd": "0.05", "price_unit": "second"}
    async with client(site) as http, signed_in(browser, site) as page:
        for name in ("first", "second"):
            await http.post("/v1/admin/plans", json={"name": name})
            await http.post("/v1/admin/users", json={"id": name})
            await http.post("/v1/admin/keys", json={"user": name, "name": name})
        lines = [line, line | {"when": {"resolution": "1080p"}}]
        await http.put("/v1/admin/prices", json={"prices": lines})

        for name, act, verb in (("Plans", "Delete", "Delete plan"), ("Keys", "Revoke", "Revoke")):
            await view(page, name)
            acts = page.get_by_role("table", name=name).get_by_role("button", name=act)
            await expect(acts).to_have_count(2)
            edits = page.get_by_role("table", name=name).get_by_role("button", name="Edit")
            await acts.first.press("Enter")
            await page.get_by_role("dialog").get_by_role("button", name=verb).press("Enter")
            await expect(edits).to_have_count(1)
            await expect(edits).to_be_focused()
            await acts.press("Enter")
            await page.get_by_role("dialog").get_by_role("button", name=verb).press("Enter")
            await expect(edits).to_have_count(0)
            await expect(page.get_by_role("heading", name=name, level=1)).to_be_focused()

        await view(page, "Users")
        users = page.get_by_role("table", name="Users").get_by_role("link")
        await expect(users).to_have_count(2)
        await users.first.press("Enter")
        await page.get_by_role("button", name="Delete").press("Enter")
        await page.get_by_role("button", name="Delete user").press("Enter")
        await expect(users).to_have_count(1)
        await expect(users).to_be_focused()

        await view(page, "Prices")
        await page.get_by_role("button", name="Remove line 1").press("Enter")
        await expect(page.get_by_role("button", name="Remove line 1")).to_be_focused()
        await page.get_by_role("button", name="Save prices").press("Enter")
        await expect(page.get_by_text("Saved.", exact=True)).to_be_visible()


async def test_the_keyboard_is_back_at_its_row_when_going_back_closes_a_drawer(
    site: str, browser: Browser
) -> None:
    await key_of(site, "alice")
    async with signed_in(browser, site) as page:
        await view(page, "Users")
        row = page.get_by_role("link", name="alice")
        await row.press("Enter")
        await expect(page.get_by_role("dialog", name="alice")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(row).to_be_focused()


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
        await expect(page.get_by_text("Nobody is on this plan.")).to_be_visible()

        # Nor are keys that cannot be read the same as none.
        await page.route("**/v1/admin/keys?*", lambda route: route.abort())
        await page.goto(f"{site}/console#/users?user=user-1")
        await expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


async def test_what_another_operator_does_shows_by_itself(site: str, browser: Browser) -> None:
    async with client(site) as http, signed_in(browser, site, allow="404") as page:
        for name in ("first", "second"):
            await http.post("/v1/admin/plans", json={"name": name})
        await page.clock.install()
        await page.reload()
        await view(page, "Plans")
        gone, other = (page.get_by_role("button", name=f"Delete {n}") for n in ("first", "second"))
        await gone.press("Enter")
        await http.delete("/v1/admin/plans/first")
        asked = page.get_by_role("dialog", name="Delete first?")
        await asked.get_by_role("button", name="Delete plan").press("Enter")
        await expect(asked.get_by_role("alert")).to_contain_text("first")
        await page.keyboard.press("Escape")
        await expect(gone).to_have_count(0)
        await expect(page.get_by_role("button", name="Edit second")).to_be_focused()
        await expect(other).to_be_visible()
        await http.patch("/v1/admin/plans/second", json={"timezone": "Asia/Tokyo"})
        await page.clock.fast_forward("00:05")
        await expect(page.get_by_role("cell", name="Asia/Tokyo")).to_be_visible()

        await http.post("/v1/admin/users", json={"id": "alice"})
        await page.goto(f"{site}/console#/users?user=alice")
        drawer = page.get_by_role("dialog", name="alice")
        await expect(drawer.get_by_text("No key.")).to_be_visible()
        await http.post("/v1/admin/keys", json={"user": "alice", "name": "ci"})
        await http.patch("/v1/admin/users/alice", json={"disabled": True})
        await page.clock.fast_forward("00:05")
        await expect(drawer.get_by_text("ci · user disabled")).to_be_visible()
        await expect(drawer.get_by_text("disabled", exact=True)).to_be_visible()


async def test_a_list_that_takes_long_is_waited_for(site: str, browser: Browser) -> None:
    on_its_way = asyncio.Event()
    await submit_once(site, await key_of(site, "alice"), "sandbox:instant")
    async with signed_in(browser, site) as page:
        await page.clock.install()
        await page.reload()
        await page.route("**/v1/admin/jobs?*", answered_after(on_its_way))
        asks = requests_of(page, "/v1/admin/jobs?")
        await view(page, "Jobs")
        await expect(page.get_by_text("Loading…")).to_be_visible()
        await page.clock.run_for(20_000)
        assert len(asks) == 1
        on_its_way.set()
        await expect(page.get_by_role("table", name="Jobs")).to_contain_text("alice")


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


async def test_one_thing_has_one_name(site: str, browser: Browser) -> None:
    async with client(site) as http:
        limits = {"pending_jobs": {"limit": 5}}
        await http.post("/v1/admin/users", json={"id": "alice", "limits": limits})
    at = "2026-11-22T10:00:00.000Z"
    finding = {"day": "2026-11-22", "user": "alice", "limit": "pending_jobs", "count": 1}
    finding |= {"account": "user:alice", "last_at": at, "last_job": "job_1"}
    async with signed_in(browser, site) as page:
        await page.route(
            "**/v1/admin/shadow-findings?*",
            lambda route: route.fulfill(json={"data": [finding], "next_cursor": None}),
        )
        await view(page, "Shadow findings")
        await expect(page.get_by_role("heading", name="Shadow findings")).to_be_visible()
        await expect(page.get_by_role("cell", name="Pending jobs", exact=True)).to_be_visible()
        await page.goto(f"{site}/console#/users?user=alice")
        await expect(page.get_by_role("cell", name="Pending jobs: 5")).to_be_attached()
        await expect(page.get_by_role("meter", name="Pending jobs", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Edit").click()
        await expect(page.get_by_role("textbox", name="Pending jobs")).to_have_value("5")


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
