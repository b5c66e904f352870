"""One trace spans a job, and nothing that clients sent is in it."""

import json

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.core.clock import ManualClock
from app.core.tracing import Tracing
from app.telemetry import Discreet, tracing
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.receiver import receiving

pytestmark = pytest.mark.either_database

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SECRET = "the-fox-that-nobody-may-see"


async def test_one_trace_spans_accept_dispatch_polls_and_webhook_and_tells_no_secret(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    spans = InMemorySpanExporter()
    traced = tracing(SimpleSpanProcessor(Discreet(spans)))
    try:
        async with (
            receiving() as receiver,
            running(
                database_url,
                sandbox=sandbox,
                clock=clock,
                tracing=traced,
                allow_private_networks=True,
            ) as gateway,
        ):
            body = gateway.body(SECRET) | {"webhook_url": receiver.url}
            answer = await gateway.http.post(
                f"/v1/jobs?api_key={SECRET}",
                json=body,
                headers={
                    "traceparent": PARENT,
                    "tracestate": f"a={SECRET}",
                    "Idempotency-Key": SECRET,
                    "User-Agent": SECRET,
                },
            )
            job = await gateway.follow(answer.json())
            await gateway.deliver()
            await gateway.http.get(job["output"]["video"])
            await gateway.http.get(f"/v1/{SECRET}")
            await gateway.http.get("/readyz")
            key = gateway.http.headers["Authorization"].split()[1]
            secrets = (SECRET, key, receiver.url, sandbox.url, "signature", "SELECT jobs", "readyz")
    finally:
        traced.close()

    finished = spans.get_finished_spans()
    ours = [span for span in finished if span.context.trace_id == int(TRACE, 16)]
    names = [span.name for span in ours]
    assert {"POST /v1/jobs", "dispatch", "poll", "webhook"} <= set(names)
    assert {name.partition(" ")[0] for name in names} > {"POST", "GET", "INSERT", "UPDATE"}
    stages = [span for span in ours if span.name in {"dispatch", "poll", "webhook"}]
    assert {dict(span.attributes or {})["gateway.job.id"] for span in stages} == {job["id"]}
    sent = next(span for span in ours if span.name == "dispatch")
    parents = [(span.name, span.parent.span_id) for span in ours if span.parent]
    assert ("POST", sent.context.span_id) in parents
    told = "".join(span.to_json() for span in finished)
    assert [secret for secret in secrets if secret in told] == []
    assert "traceparent" not in receiver.last.headers  # the trace is no business of its owner's
    # Idle workers ask the database all day.
    statements = [span for span in finished if "db.system" in (span.attributes or {})]
    assert statements
    assert all(span.parent for span in statements)


async def test_without_a_provider_there_is_nothing(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        "/v1/jobs", json=gateway.body(), headers={"traceparent": PARENT}
    )
    job = await gateway.app.state.services.jobs.find_many([answer.json()["id"]])
    assert [each.traceparent for each in job.values()] == [None]
    silent = Tracing()
    assert silent.current() is None
    with silent.stage("poll", of=PARENT, job_id="job_x"):
        assert silent.current() is None


async def test_what_breaks_in_a_stage_or_in_a_library_is_not_quoted() -> None:
    spans = InMemorySpanExporter()
    traced = tracing(SimpleSpanProcessor(Discreet(spans)))
    assert traced.provider is not None
    library = traced.provider.get_tracer("library")
    for part in (
        traced.stage("poll", of=PARENT, job_id="job_x"),
        library.start_as_current_span("GET"),
    ):
        with pytest.raises(ValueError, match=SECRET), part:
            raise ValueError(SECRET)
    traced.close()
    told = [json.loads(span.to_json()) for span in spans.get_finished_spans()]
    assert [each["events"] for each in told] == [[], []]
    assert [each["status"] for each in told] == [{"status_code": "UNSET"}, {"status_code": "ERROR"}]
    assert SECRET not in str(told)
