"""What Prometheus reads: what happened, under labels that nothing a client sends can add to."""

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.core.clock import ManualClock
from app.core.metrics import Metrics
from app.jobs.lanes.accounts import Roster
from app.jobs.operations.metrics_page import MetricsPage
from tests.support.answers import problem
from tests.support.asgi import send_raw
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.switched_database import SwitchedDatabase

pytestmark = pytest.mark.either_database

TOKEN = "scraper-" + "5" * 32


async def scrape(gateway: Gateway) -> dict[str, float]:
    """Give each sample as it is written, but for the buckets of histograms."""
    answer = await send_raw(gateway.app, "GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return read(answer.text)


def read(text: str) -> dict[str, float]:
    return {
        _shown(sample): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def _shown(sample: Sample) -> str:
    return f"{sample.name}{{{','.join(f'{k}={v}' for k, v in sorted(sample.labels.items()))}}}"


async def test_a_job_leaves_its_traces_in_numbers(gateway: Gateway) -> None:
    first = await gateway.follow(await gateway.submit("sandbox:queue=9 sandbox:slow=3"))
    assert first["status"] == "completed"
    await gateway.submit()
    gateway.wait(9)
    seen = await scrape(gateway)
    polls = {name: value for name, value in seen.items() if name.startswith("gateway_polls_total")}
    calls = {name: value for name, value in seen.items() if "upstream_call_seconds_count" in name}
    assert seen["gateway_http_requests_total{code=202,method=POST,route=/v1/jobs}"] == 2
    assert seen["gateway_http_request_seconds_count{route=/v1/jobs}"] == 2
    for state in ("submitting", "in_queue", "in_progress", "completed"):
        assert seen[f"gateway_job_moves_total{{state={state}}}"] == 1, "however often it was polled"
    assert seen["gateway_dispatch_delay_seconds_count{}"] == 1
    assert seen["gateway_detection_delay_seconds_count{}"] == 1
    assert 0 <= seen["gateway_detection_delay_seconds_sum{}"] <= 3
    assert polls["gateway_polls_total{outcome=ended}"] == 1
    assert polls["gateway_polls_total{outcome=advanced}"] == 1
    assert (
        sum(polls.values())
        == calls["gateway_upstream_call_seconds_count{operation=status,outcome=ok}"]
    )
    assert calls["gateway_upstream_call_seconds_count{operation=submit,outcome=ok}"] == 1
    assert calls["gateway_upstream_call_seconds_count{operation=result,outcome=ok}"] == 1
    assert seen["gateway_upstream_call_seconds_sum{operation=result,outcome=ok}"] == 0
    assert seen["gateway_jobs{state=pending}"] == seen["gateway_held_jobs{}"] == 1
    assert seen["gateway_jobs{state=in_progress}"] == 0
    assert seen["gateway_oldest_pending_seconds{}"] == 9
    assert seen["gateway_outputs_at_risk{}"] == 0
    assert seen["gateway_database_up{}"] == seen["gateway_live_workers{}"] == 1
    assert seen["gateway_upstream_lane_open{lane=submits}"] == 1
    assert seen["gateway_database_connections{pool=writer,state=size}"] >= 1


async def test_holds_and_late_webhooks_and_lost_workers_are_told(gateway: Gateway) -> None:
    price = {"model": SEEDANCE, "base_price_usd": "0.25", "price_unit": "second"}
    await gateway.admin.put("/v1/admin/prices", json={"prices": [price]})
    body = gateway.body() | {"webhook_url": "https://hooks.example.com/jobs"}
    cancelled = (await gateway.http.post("/v1/jobs", json=body)).json()
    await gateway.submit()
    await gateway.http.post(f"/v1/jobs/{cancelled['id']}/cancel")
    names = ("held_usd", "webhook_deliveries_waiting", "webhook_deliveries_overdue", "live_workers")
    for seconds, told in ((0, [0.5, 1, 0, 1]), (29, [0.5, 1, 0, 1]), (25, [0.5, 1, 0, 0])):
        gateway.wait(seconds)
        seen = await scrape(gateway)
        assert [seen[f"gateway_{name}{{}}"] for name in names] == told
    gateway.wait(6)
    assert (await scrape(gateway))["gateway_webhook_deliveries_overdue{}"] == 1


async def test_how_late_the_loop_wakes_is_measured(gateway: Gateway) -> None:
    gateway.wait(3.5)  # where a second was asked for
    seen = await scrape(gateway)
    assert seen["gateway_event_loop_lag_seconds_count{}"] == 1
    assert seen["gateway_event_loop_lag_seconds_sum{}"] == 2.5


async def test_refusals_and_trouble_upstream_are_counted(gateway: Gateway) -> None:
    await gateway.admin.patch(
        "/v1/admin/users/alice", json={"limits": {"jobs_per_day": {"limit": 1}}}
    )
    await gateway.submit("sandbox:submit-401")
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    shaped = await gateway.http.post(f"/v1/models/{SEEDANCE}", json=gateway.body()["input"])
    assert (refused.status_code, shaped.status_code) == (429, 429)
    await gateway.dispatch()
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": True})
    seen = await scrape(gateway)
    assert seen["gateway_refusals_total{code=quota_exceeded,limit=jobs_per_day}"] == 2
    assert seen["gateway_upstream_call_seconds_count{operation=submit,outcome=refused}"] == 1
    assert seen["gateway_upstream_lane_open{lane=submits}"] == 0
    assert seen["gateway_upstream_lane_open{lane=polls}"] == 1
    assert seen["gateway_dispatch_paused{}"] == 1


async def test_what_clients_send_makes_no_labels(gateway: Gateway) -> None:
    job = await gateway.submit("a prompt to keep to oneself")
    for path in (
        "/nope",
        "/v1/jobs/" + "x" * 50,
        f"/v1/jobs/{job['id']}",
        f"/v1/models/{SEEDANCE}",
    ):
        for method in ("GET", "BREW", "M" * 500):
            await send_raw(gateway.app, method, path)
    answer = await send_raw(gateway.app, "GET", "/metrics")
    routes = set(re.findall(r'route="([^"]*)"', answer.text))
    assert routes >= {"none", "/v1/jobs", "/v1/jobs/{job_id}"}
    assert set(re.findall(r'method="([^"]*)"', answer.text)) == {"GET", "POST", "other"}
    told = (job["id"], "alice", "keep to oneself", "BREW", "xxx", "nope", "seedance", "rcg_")
    assert not [word for word in told if word in answer.text]


async def test_who_watches_is_counted_among_no_requests(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await send_raw(gateway.app, "GET", path)).status_code == 200
    await send_raw(gateway.app, "GET", "/healthz/nope")
    counted = [name for name in await scrape(gateway) if name.startswith("gateway_http_")]
    assert counted == [
        "gateway_http_requests_total{code=404,method=GET,route=none}",
        "gateway_http_request_seconds_count{route=none}",
        "gateway_http_request_seconds_sum{route=none}",
    ]


async def test_only_the_api_says_that_it_serves(gateway: Gateway) -> None:
    assert (await scrape(gateway))["gateway_serving{}"] == 1
    alone = read(Metrics().render().decode())  # as a worker begins
    assert alone["gateway_serving{}"] == 0


async def test_the_database_is_asked_once_in_five_seconds_and_may_be_away(
    gateway: Gateway, database_url: str
) -> None:
    database = SwitchedDatabase(database_url)
    metrics_page = MetricsPage(
        database=database,
        archive=gateway.app.state.services.archive,
        roster=Roster(),
        metrics=Metrics(),
        clock=gateway.clock,
    )
    for seconds, seen in ((0, 0), (4, 0), (1, 1)):
        gateway.wait(seconds)
        assert read((await metrics_page.render()).decode())["gateway_jobs{state=pending}"] == seen
        if not seconds:
            await gateway.submit()

    known = read((await metrics_page.render()).decode())
    database.away = True
    gateway.wait(5)
    away = read((await metrics_page.render()).decode())
    assert away["gateway_database_up{}"] == 0
    lost = {name.partition("{")[0] for name in known if math.isnan(away.get(name, math.nan))}
    assert lost == {
        "gateway_jobs",
        "gateway_oldest_pending_seconds",
        "gateway_held_jobs",
        "gateway_held_usd",
        "gateway_outputs_at_risk",
        "gateway_webhook_deliveries_waiting",
        "gateway_webhook_deliveries_overdue",
        "gateway_upstream_lane_open",
        "gateway_dispatch_paused",
        "gateway_live_workers",
    }
    assert away["gateway_database_connections{pool=writer,state=in_use}"] == 0
    database.away = False
    gateway.wait(5)
    assert read((await metrics_page.render()).decode())["gateway_database_up{}"] == 1
    await database.close()


async def test_a_token_closes_metrics_to_others(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, metrics_token=TOKEN) as gateway:
        for sent in (None, TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xff"):
            headers = [] if sent is None else [(b"authorization", sent.encode("latin-1"))]
            refused = await send_raw(gateway.app, "GET", "/metrics", headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert problem(await gateway.http.get("/metrics"))["code"] == "unauthenticated"
        answer = await gateway.client_with(TOKEN).get("/metrics")
        assert answer.status_code == 200
        assert TOKEN not in answer.text
