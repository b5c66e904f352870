"""RunComfy's catalogue: read in pages, kept while it is down, compared, followed by replicas."""

import asyncio
import copy
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.upstream.errors import UpstreamError
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.rows import change
from tests.support.shelf import Shelf, entry, shelf
from tests.support.wire_server import answer

pytestmark = pytest.mark.either_database

DREAM = "acme/dream/text-to-video"
Opening = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
async def upstream() -> AsyncIterator[Shelf]:
    async with shelf(entry()) as served:
        yield served


@pytest.fixture
def opening(database_url: str, upstream: Shelf, sandbox: Sandbox, clock: ManualClock) -> Opening:
    """Open gateways on one database whose RunComfy is the shelf."""

    def opened(**settings: Any) -> AbstractAsyncContextManager[Gateway]:
        lookalike = Sandbox(url=settings.pop("url", upstream.url), http=sandbox.http)
        return running(database_url, sandbox=lookalike, clock=clock, **settings)

    return opened


@pytest.fixture
async def synced(opening: Opening) -> AsyncIterator[Gateway]:
    async with opening() as gateway:
        await gateway.workers.catalogue.sync()
        yield gateway


async def ids(gateway: Gateway, **params: Any) -> list[str]:
    page = (await gateway.http.get("/v1/models", params={"limit": 500} | params)).json()
    return [model["model_id"] for model in page["models"]]


async def dream(gateway: Gateway, *, model: str = DREAM, **fields: Any) -> Any:
    body = {"model": model, "input": {"prompt": "x", "duration": 10} | fields}
    return await gateway.http.post("/v1/jobs", json=body)


async def test_what_runcomfy_lists_is_served_and_priced(opening: Opening, upstream: Shelf) -> None:
    upstream.entries += [entry(f"acme/other-{n:03}/text-to-image") for n in range(250)]
    async with opening() as gateway:
        assert SEEDANCE in await ids(gateway)
        await gateway.workers.catalogue.sync()
        assert {page["path"] for page in upstream.asked} == {"/v1/models"}
        pages = [(page["offset"], page["limit"]) for page in upstream.asked]
        assert pages == [("0", "100"), ("100", "100"), ("200", "100")]
        assert {page["include_schema"] for page in upstream.asked} == {"true"}
        assert len(await ids(gateway)) == 251
        assert SEEDANCE not in await ids(gateway)

        model = (await gateway.http.get(f"/v1/models/{DREAM}")).json()
        assert model.pop("schema_hash").startswith("sha256:")
        assert model == entry() | {"output_kind": "video"}
        categories = (await gateway.http.get("/v1/models/categories")).json()
        assert categories == {"categories": ["new", "text-to-video"]}

        job = (await dream(gateway)).json()
        assert job["cost"] == {"amount_usd": "2.00", "output_seconds": 10, "state": "held"}
        line = {"model": DREAM, "base_price_usd": "0.50", "price_unit": "output"}
        await gateway.admin.put("/v1/admin/prices", json={"prices": [line]})
        assert (await dream(gateway)).json()["cost"]["amount_usd"] == "0.50"
        shown = (await gateway.http.get(f"/v1/models/{DREAM}")).json()
        assert (shown["base_price_usd"], shown["price_unit"]) == (0.5, "output")
        special = line | {"when": {"duration": 10}}
        await gateway.admin.put("/v1/admin/prices", json={"prices": [special]})
        assert (await dream(gateway)).json()["cost"]["amount_usd"] == "0.50"
        assert (await dream(gateway, duration=5)).json()["cost"]["amount_usd"] == "1.00"
        upstream.entries[0]["base_price_usd"] = 9
        await gateway.workers.catalogue.sync()
        assert (await gateway.read(job))["cost"]["amount_usd"] == "2.00"
        assert (await dream(gateway, duration=5)).json()["cost"]["amount_usd"] == "45.00"


BROKEN = {
    "no JSON": answer(raw=b"<html>"),
    "an error": answer(500, {"error_code": 500000}),
    "an error inside a success": answer(200, {"error_code": 400004, "error_message": "no"}),
    "no list": answer(200, {"models": {"a": 1}, "total": 1}),
    "nothing": answer(200, {"models": [], "total": 0}),
    "too much": answer(raw=b"[" + b"1," * 5 * 2**20 + b"1]"),
    "one page for all": answer(200, {"models": [entry("acme/new/text-to-video")], "total": 2}),
    "too many to come": answer(200, {"models": [entry()], "total": 2001}),
    "too many": answer(200, {"models": [entry(f"a/{n}") for n in range(2001)], "total": 1}),
    "a full page of who knows how many": answer(
        200, {"models": [entry(f"a/{n}") for n in range(100)]}
    ),
    "a redirect": answer(302, Location="https://example.com/"),
}


async def test_the_last_good_catalogue_stays_while_runcomfy_is_down(
    synced: Gateway, opening: Opening, upstream: Shelf
) -> None:
    for what, whole in BROKEN.items():
        upstream.broken = whole
        with pytest.raises(UpstreamError):
            await synced.workers.catalogue.sync()
        assert await ids(synced) == [DREAM], what
    upstream.broken = None
    upstream.entries, upstream.total = [entry("acme/new/text-to-video")], 2
    with pytest.raises(UpstreamError, match="before its total"):
        await synced.workers.catalogue.sync()
    assert await ids(synced) == [DREAM]

    async with opening() as restarted:
        assert await ids(restarted) == [DREAM]
    async with opening(url="http://127.0.0.1:9") as elsewhere:
        assert SEEDANCE in await ids(elsewhere), "another upstream's catalogue says nothing here"


async def test_no_model_is_lost_between_pages_when_the_catalogue_shrinks_as_it_is_read(
    synced: Gateway, upstream: Shelf
) -> None:
    upstream.entries[:0] = [entry(f"acme/other-{n:03}/text-to-image") for n in range(100)]
    upstream.shrinks = True
    with pytest.raises(UpstreamError, match="while it was read"):
        await synced.workers.catalogue.sync()
    assert await ids(synced) == [DREAM]
    upstream.shrinks = False
    report = await synced.workers.catalogue.sync()
    assert (report.models, report.withdrawn) == (99, [])


async def test_a_broken_entry_takes_nobody_down(synced: Gateway, upstream: Shelf) -> None:
    assert (await dream(synced)).status_code == 202
    schema = entry()["input_schema"]
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"items": deep}
    upstream.entries = [
        entry(input_schema={"type": "object", "properties": {"prompt": {"type": "nonsense"}}}),
        entry("acme/fine/text-to-video"),
        entry("acme/remote/x", input_schema={"$ref": "http://169.254.169.254/schema.json"}),
        entry("acme/file/x", input_schema={"$ref": "file:///etc/passwd"}),
        entry("acme/deep/x", input_schema=deep),
        entry("acme/large/x", input_schema=schema | {"title": "x" * 300_000}),
        entry("acme/nul/x", input_schema=schema | {"title": "\0"}),
        entry("acme/nan/x", input_schema=schema | {"default": math.nan}),
        entry("acme/huge/x", input_schema=schema | {"default": 2**64}),
        entry("acme/no-schema/x", input_schema=None),
        entry("../../etc/passwd"),
        entry("one-segment"),
        *(None, 7, [], {}, {"model_id": 7}, {"model_id": "\ud800/x"}),
    ]
    with capture_logs() as logs:
        report = await synced.workers.catalogue.sync()
    assert (report.models, report.skipped, report.withdrawn) == (1, 17, [])
    assert report.breaks == {}, "a model in use is not gone because its entry is broken"
    skipped = [line for line in logs if line["event"] == "catalogue.model_skipped"]
    assert len(skipped) == 17
    assert all(line["log_level"] == "warning" and len(str(line)) < 800 for line in skipped)
    assert await ids(synced) == [DREAM, "acme/fine/text-to-video"]
    assert (await dream(synced)).status_code == 202, "its last good state serves on"


async def test_an_entry_that_names_no_model_takes_none_away(
    synced: Gateway, upstream: Shelf
) -> None:
    """It may be that of any: of all, if RunComfy gives the name another name."""
    assert (await dream(synced)).status_code == 202
    renamed = entry()
    renamed["name"] = renamed.pop("model_id")
    upstream.entries = [renamed]
    report = await synced.workers.catalogue.sync()
    assert (report.withdrawn, report.breaks) == ([], {})
    assert (await dream(synced)).status_code == 202


async def test_a_stored_model_that_later_rules_refuse_takes_nobody_down(
    opening: Opening, upstream: Shelf, database_url: str
) -> None:
    upstream.entries.append(entry("acme/fine/text-to-video"))
    async with opening() as gateway:
        await gateway.workers.catalogue.sync()
    broken = {"schema": '{"type": "nonsense"}', "id": DREAM}
    change(
        database_url,
        "UPDATE catalogue_models SET schema_hash = 'old', input_schema = :schema"
        " WHERE model_id = :id",
        **broken,
    )
    async with opening() as upgraded:
        assert await ids(upgraded) == ["acme/fine/text-to-video"]


async def test_odd_facts_become_none_and_never_a_wrong_price(
    synced: Gateway, upstream: Shelf
) -> None:
    odd: list[tuple[Any, str | None]] = [
        *((-1, "second"), (True, "second"), ("0.1", "second"), (1, "megapixel"), (None, None)),
        *((1_000_001, "second"), (math.nan, "second"), (math.inf, "output")),
    ]
    for n, (price, unit) in enumerate(odd):
        upstream.entries.append(entry(f"odd/{n}", base_price_usd=price, price_unit=unit))
    upstream.entries.append(
        entry("odd/texts", display_name=7, description=["x"], categories="x", model_url="file:///")
    )
    many = ["\0", *(f"{n:02}" * 50 for n in range(30))]
    upstream.entries.append(
        entry("odd/much", display_name="a\0b\ud800", description="x" * 9999, categories=many)
    )
    upstream.entries.append(entry("odd/free", base_price_usd=0, price_unit="output", kind=None))
    upstream.entries.append(entry("odd/exact", base_price_usd=0.1234565))
    await synced.workers.catalogue.sync()
    for n in range(len(odd)):
        model = (await synced.http.get(f"/v1/models/odd/{n}")).json()
        assert (model["base_price_usd"], model["price_unit"]) == (None, None)
    texts = (await synced.http.get("/v1/models/odd/texts")).json()
    assert (texts["display_name"], texts["description"]) == ("odd/texts", "")
    assert (texts["categories"], texts["model_url"]) == ([], "")
    much = (await synced.http.get("/v1/models/odd/much")).json()
    assert (much["display_name"], much["description"]) == ("ab", "x" * 4000)
    assert much["categories"] == [f"{n:02}" * 32 for n in range(19)]
    exact = (await synced.http.get("/v1/models/odd/exact")).json()
    assert exact["base_price_usd"] == 0.123456, "no finer than money is kept"
    free = (await synced.http.get("/v1/models/odd/free")).json()
    assert (free["base_price_usd"], free["output_kind"], free["kind"]) == (0.0, "video", "")


async def test_what_a_model_makes_is_told_by_its_kind_a_category_or_its_name(
    synced: Gateway, upstream: Shelf
) -> None:
    told: list[tuple[str, Any, list[str], str]] = [
        ("a/film", "Text to Image", ["text-to-video"], "image"),
        ("a/clip-to-video", "effects", ["new", "speech_audio"], "audio"),
        ("a/text-to-image/pro", None, [], "image"),
        ("a/image/audio", None, [], "audio"),
        ("a/imagery", None, ["images"], "video"),
    ]
    upstream.entries += [
        entry(model_id, kind=kind, categories=categories) for model_id, kind, categories, _ in told
    ]
    await synced.workers.catalogue.sync()
    for model_id, *_, makes in told:
        model = (await synced.http.get(f"/v1/models/{model_id}")).json()
        assert (model_id, model["output_kind"]) == (model_id, makes)


async def test_a_breaking_change_of_a_model_in_use_is_an_alarm(
    synced: Gateway, upstream: Shelf
) -> None:
    job = (await dream(synced)).json()
    steady = "acme/steady/text-to-video"
    upstream.entries += [entry("acme/unused/text-to-video"), entry(steady)]
    await synced.workers.catalogue.sync()
    assert (await dream(synced, model=steady)).status_code == 202
    before = (await synced.http.get(f"/v1/models/{DREAM}")).json()["schema_hash"]
    for each in upstream.entries[:2]:
        each["input_schema"] = copy.deepcopy(each["input_schema"])
        each["input_schema"]["properties"]["duration"]["enum"] = [5]
        each["input_schema"]["required"] = ["prompt", "seed"]
        each["input_schema"]["properties"]["seed"] = {"type": "integer"}
    upstream.entries[1]["base_price_usd"] = 0.25
    with capture_logs() as logs:
        report = await synced.workers.catalogue.sync()
    breaks = ["`seed` is required now", "`duration` no longer takes 10"]
    assert report.breaks == {DREAM: breaks}
    (alarm,) = [line for line in logs if line["event"] == "catalogue.breaking_change"]
    assert (alarm["log_level"], alarm["model"], alarm["breaks"]) == ("error", DREAM, breaks)
    after = (await synced.http.get(f"/v1/models/{DREAM}")).json()["schema_hash"]
    assert after != before
    entries = await synced.audited()
    told = [each for each in entries if each["action"] == "catalogue.breaking_change"]
    assert [(each["actor"], each["target"]) for each in told] == [("system", DREAM)]
    assert told[0]["before"] == {"schema_hash": before}
    assert told[0]["after"] == {"schema_hash": after, "breaks": breaks}
    synced_now = next(each for each in entries if each["action"] == "catalogue.synced")
    assert synced_now["after"]["changed"] == [
        {
            "model": model,
            "schema": True,
            "base_price_usd": ["0.200000", price],
            "price_unit": ["second", "second"],
        }
        for model, price in ((DREAM, "0.200000"), ("acme/unused/text-to-video", "0.250000"))
    ]
    assert (await synced.admin.get(f"/v1/admin/jobs/{job['id']}")).json()["schema_hash"] == before

    assert (await dream(synced)).json()["errors"][0]["pointer"] == "/input/duration"
    count = len(await synced.audited())
    assert not (await synced.workers.catalogue.sync()).is_news
    assert len(await synced.audited()) == count, "no news, no entry"
    synced.wait(31 * 86_400)
    upstream.entries = [entry("acme/unused/text-to-video")]
    assert (await synced.workers.catalogue.sync()).breaks == {}, "nobody uses it any more"


async def test_reads_of_the_background_and_what_they_break_are_counted(
    synced: Gateway, upstream: Shelf
) -> None:
    async def counted() -> list[str]:
        told = (await synced.http.get("/metrics")).text
        return re.findall(r"^gateway_catalogue_\w+_total.* (.+)$", told, re.MULTILINE)

    await dream(synced)
    assert await counted() == ["0.0", "0.0", "0.0"], "an alert would miss what begins at one"
    upstream.broken = answer(503, {})
    synced.wait(3600)
    await synced.workers.catalogue.run_once()
    assert await counted() == ["0.0", "1.0", "0.0"], "good reads, failed ones, broken models"
    upstream.broken = None
    upstream.entries[0]["input_schema"]["properties"]["duration"]["enum"] = [5]
    synced.wait(60)
    await synced.workers.catalogue.run_once()
    assert await counted() == ["1.0", "1.0", "1.0"]


async def test_the_first_read_is_compared_with_what_was_shipped(opening: Opening) -> None:
    async with opening() as gateway:
        await gateway.submit()
        shipped = (await gateway.http.get(f"/v1/models/{SEEDANCE}")).json()["schema_hash"]
        report = await gateway.workers.catalogue.sync()
        assert report.breaks == {SEEDANCE: ["RunComfy no longer lists the model"]}
        (told,) = [
            each
            for each in await gateway.audited()
            if each["action"] == "catalogue.breaking_change"
        ]
        assert (told["target"], told["before"]) == (SEEDANCE, {"schema_hash": shipped})


async def test_a_withdrawn_model_takes_no_more_jobs_until_it_is_back(
    synced: Gateway, upstream: Shelf
) -> None:
    job = (await dream(synced)).json()
    upstream.entries = [entry("acme/new/text-to-video")]
    report = await synced.workers.catalogue.sync()
    assert report.breaks == {DREAM: ["RunComfy no longer lists the model"]}
    entries = await synced.audited()
    assert next(each["after"] for each in entries if each["action"] == "catalogue.synced") == {
        "models": 1,
        "added": ["acme/new/text-to-video"],
        "changed": [],
        "withdrawn": [DREAM],
    }
    refused = (await dream(synced)).json()
    assert (refused["status"], refused["code"]) == (422, "unknown_model")
    assert refused["detail"].startswith(f'RunComfy no longer offers the model "{DREAM}".')
    other_shape = await synced.http.post(f"/v1/models/{DREAM}", json={"prompt": "x"})
    assert (other_shape.status_code, other_shape.json()["error_code"]) == (400, 400001)
    assert await ids(synced) == ["acme/new/text-to-video"]
    assert (await synced.read(job))["status"] == "pending"
    upstream.entries.append(entry())
    assert (await synced.workers.catalogue.sync()).added == [DREAM]
    assert (await dream(synced)).status_code == 202


async def test_one_replica_reads_in_its_turn_and_all_follow(
    opening: Opening, upstream: Shelf
) -> None:
    async with opening() as one, opening() as two:
        keepers = [one.workers.catalogue, two.workers.catalogue]
        await asyncio.gather(*(keeper.run_once() for keeper in keepers))
        assert len(upstream.asked) == 1
        for keeper in keepers:
            await keeper.run_once()
        assert await ids(one) == await ids(two) == [DREAM]

        upstream.entries.append(entry("acme/new/text-to-video"))
        one.wait(3599)
        await asyncio.gather(*(keeper.run_once() for keeper in keepers))
        assert len(upstream.asked) == 1
        upstream.broken = answer(503, {})
        one.wait(1)
        await asyncio.gather(*(keeper.run_once() for keeper in keepers))
        await asyncio.gather(*(keeper.run_once() for keeper in keepers))
        assert len(upstream.asked) == 2
        upstream.broken = None
        one.wait(60)
        await two.workers.catalogue.run_once()
        await one.workers.catalogue.run_once()
        assert len(upstream.asked) == 3
        assert await ids(one) == await ids(two) == [DREAM, "acme/new/text-to-video"]

    async with opening(catalogue_refresh_seconds=0) as by_hand:
        by_hand.clock.advance(datetime(2027, 1, 1, tzinfo=UTC) - by_hand.clock.now())
        await by_hand.workers.catalogue.run_once()
        assert len(upstream.asked) == 3
        assert len(await ids(by_hand)) == 2


async def test_reads_at_once_end_in_one_catalogue(opening: Opening) -> None:
    async with opening() as one, opening() as two:
        keepers = [one.workers.catalogue, two.workers.catalogue]
        reports = await asyncio.gather(*(keeper.sync() for keeper in keepers for _ in range(3)))
        assert sorted(len(report.added) for report in reports) == [0, 0, 0, 0, 0, 1]
        await asyncio.gather(*(keeper.run_once() for keeper in keepers))
        assert await ids(one) == await ids(two) == [DREAM]
        assert [each["action"] for each in await one.audited()] == ["catalogue.synced"]


async def test_catalogues_of_two_upstreams_keep_apart(opening: Opening) -> None:
    other = entry("acme/other/text-to-video")
    async with (
        shelf(entry(), other) as second,
        opening() as one,
        opening(url=second.url) as two,
    ):
        for gateway in (one, two):
            await gateway.workers.catalogue.sync()
        assert (await ids(one), await ids(two)) == ([DREAM], [DREAM, other["model_id"]])
        second.entries = [other]
        assert (await two.workers.catalogue.sync()).withdrawn == [DREAM]
        assert not (await one.workers.catalogue.sync()).is_news
        assert (await ids(one), await ids(two)) == ([DREAM], [other["model_id"]])


async def test_only_allowed_models_are_offered(opening: Opening, upstream: Shelf) -> None:
    upstream.entries.append(entry("acme/other/text-to-video"))
    upstream.entries.append(entry("rival/dream/text-to-video"))
    async with opening(models=("acme/d*", "rival/*")) as gateway:
        await gateway.workers.catalogue.sync()
        assert await ids(gateway) == [DREAM, "rival/dream/text-to-video"]
        body = {"model": "acme/other/text-to-video", "input": {"prompt": "x"}}
        assert (await gateway.http.post("/v1/jobs", json=body)).json()["code"] == "unknown_model"
        key = {"user": "alice", "models": [DREAM]}
        made = await gateway.admin.post("/v1/admin/keys", json=key)
        narrow = gateway.client_with(made.json()["key"])
        listed = (await narrow.get("/v1/models")).json()
        assert (listed["total"], listed["models"][0]["model_id"]) == (1, DREAM)
        assert (await narrow.get(f"/v1/models/{DREAM}")).status_code == 200
        rival = await narrow.get("/v1/models/rival/dream/text-to-video")
        assert (rival.status_code, rival.json()["error_code"]) == (403, 403001)
