"""Both pages before anybody signed in: what they load, what they may, and who they let in."""

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from app import web
from tests.support.browser import Complaints, serious_faults, serving_pages
from tests.support.gateway import ADMIN_TOKEN

VENDOR = web.FOLDER / "vendor"
PAGES = ["/", "/console"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_load_from_its_own_origin_alone(site: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=site, timeout=60) as http:
        page = await http.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
            assert rule in policy.split("; ")
        assert not re.search(r"<script>|<style|style=|onclick=|https?://", page.text)
        spent = len(page.content)
        # None is only found by reading another: each would be a round trip before the first paint.
        assert scripts_named(page.text) == modules_of(path)
        for reference in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            async with http.stream("GET", reference) as loaded:
                assert loaded.status_code == 200, reference
                spent += len(b"".join([part async for part in loaded.aiter_raw()]))
        assert spent < 400_000


def scripts_named(page: str) -> set[Path]:
    named = re.findall(r'(?:modulepreload" href|type="module" src)="assets/([^"]+)"', page)
    return {web.FOLDER / each for each in named}


def modules_of(path: str) -> set[Path]:
    """Follow the imports of a page's script; what a view loads when it is opened is none."""
    found: set[Path] = set()
    ahead = [web.FOLDER / (path.strip("/") or "playground") / "main.js"]
    while ahead:
        module = ahead.pop()
        if module not in found:
            found.add(module)
            imports = re.findall(
                r'^(?:import|export) .* from "([^"]+)";$', module.read_text("utf-8"), re.MULTILINE
            )
            ahead += [(module.parent / each).resolve() for each in imports]
    return found


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_works_below_a_path_that_a_proxy_takes_away(
    site: str, browser: Browser, path: str
) -> None:
    context = await browser.new_context()

    async def strip(route: Route) -> None:
        assert route.request.url.startswith(f"{site}/below/")
        await route.continue_(url=route.request.url.replace("/below", "", 1))

    await context.route("**/*", strip)
    page = await context.new_page()
    await page.goto(f"{site}/below{path}")
    await page.get_by_label(re.compile("key|token", re.IGNORECASE)).fill("nobody's")
    async with page.expect_response(lambda answer: answer.status == 401):
        await page.get_by_role("button", name="Sign in").click()
    await context.close()


async def test_a_file_is_compressed_for_who_can_read_that_and_not_sent_again(site: str) -> None:
    file = "/assets/vendor/tabler.min.css"
    async with httpx.AsyncClient(base_url=site, timeout=60) as http:
        small = await http.get(file)
        assert small.headers["content-encoding"] == "gzip"
        assert int(small.headers["content-length"]) < 100_000
        whole = await http.get(file, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in whole.headers
        assert whole.content == small.content == (web.FOLDER / file[8:]).read_bytes()
        assert whole.headers["vary"] == small.headers["vary"] == "Accept-Encoding"
        head = await http.head(file)
        assert (head.headers["content-length"], head.content) == (
            small.headers["content-length"],
            b"",
        )
        again = await http.get(file, headers={"If-None-Match": small.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_path_of_very_many_steps_is_not_walked(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is asked about each step; for tens of thousands that holds up everybody."""
    asked, lstat = [], os.lstat

    def counted(path: Any, **more: Any) -> os.stat_result:
        asked.append(path)
        return lstat(path, **more)

    monkeypatch.setattr(os, "lstat", counted)
    async with httpx.AsyncClient(base_url=site, timeout=60) as http:
        nowhere = await http.get(f"/assets/{'a/' * 30_000}")
    assert nowhere.status_code == 404
    assert len(asked) < 100


async def test_a_browser_keeps_no_script_of_an_earlier_release(site: str) -> None:
    """Without a word it keeps a file for a tenth of its age: of one made in spring, for weeks."""
    async with httpx.AsyncClient(base_url=site, timeout=60) as http:
        for file in ("/assets/shared/icon.svg", "/assets/shared/api.js"):
            for headers in ({"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}):
                sent = await http.get(file, headers=headers)
                known = {"If-None-Match": sent.headers["etag"]}
                again = await http.get(file, headers=headers | known)
                assert [sent.status_code, again.status_code] == [200, 304]
                assert sent.headers["cache-control"] == again.headers["cache-control"] == "no-cache"


def test_what_is_vendored_is_what_the_lock_names() -> None:
    lock = json.loads((VENDOR / "package-lock.json").read_text("utf-8"))["packages"]
    listed = (VENDOR / "README.md").read_text("utf-8")
    row = r"^\| `([^`]+)` \| ([^|,]+?)(?:,[^|]*)? \| ([0-9.]+) \| ([^|]+?) \|$"
    rows = re.findall(row, listed, re.MULTILINE)
    assert {file for file, *_ in rows} == {
        file.name for file in VENDOR.iterdir() if file.suffix in {".js", ".css"}
    }
    for file, package, version, licence in rows:
        assert lock[f"node_modules/{package}"]["version"] == version
        assert licence
        assert "sourceMappingURL" not in (VENDOR / file).read_text("utf-8")


@pytest.mark.parametrize("path", PAGES)
async def test_a_wrong_credential_is_told_and_not_kept(
    site: str, browser: Browser, path: str
) -> None:
    complaints = Complaints()
    page = await browser.new_page()
    complaints.listen(page)
    await page.goto(site + path)
    await page.get_by_label(re.compile("key|token", re.IGNORECASE)).fill("nobody's")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await serious_faults(page) == []
    assert [said for said in complaints.heard if "401" not in said] == []
    await page.close()


async def test_a_console_without_operators_says_what_to_set(
    sqlite_url: str, browser: Browser
) -> None:
    async with serving_pages(sqlite_url, admin_token=()) as url:
        page = await browser.new_page()
        await page.goto(f"{url}/console")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("set GATEWAY_ADMIN_TOKEN")
        await page.close()
