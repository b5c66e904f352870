"""What an operator sees first: where jobs are, and how those of the last hours ended."""

from tests.support.answers import problem
from tests.support.gateway import Gateway


async def test_jobs_are_counted_by_what_became_of_them(gateway: Gateway) -> None:
    await gateway.follow(await gateway.submit("sandbox:instant"))
    await gateway.follow(await gateway.submit("sandbox:submit-422"))
    gateway.wait(3600)
    called_off = await gateway.submit()
    await gateway.http.post(f"/v1/jobs/{called_off['id']}/cancel")
    await gateway.submit("sandbox:queue=0 sandbox:stuck")
    await gateway.dispatch()
    await gateway.submit()

    overview = (await gateway.admin.get("/v1/admin/overview?hours=3")).json()
    assert overview["unfinished"] == {
        "pending": 1,
        "in_queue": 1,
        "in_progress": 0,
        "submit_unknown": 0,
    }
    none = {"accepted": 0, "completed": 0, "failed": 0, "cancelled": 0, "detection_seconds": None}
    assert overview["hours"] == [
        none | {"since": "2026-11-22T09:00:00.000Z"},
        none
        | {
            "since": "2026-11-22T10:00:00.000Z",
            "accepted": 2,
            "completed": 1,
            "failed": 1,
            "detection_seconds": {"mean": 2, "most": 2},
        },
        none | {"since": "2026-11-22T11:00:00.000Z", "accepted": 3, "cancelled": 1},
    ]


async def test_how_long_ends_went_unseen_is_told_by_hour(gateway: Gateway) -> None:
    for seconds in (4, 10):
        await gateway.submit("sandbox:instant")
        await gateway.dispatch()
        gateway.wait(seconds)
        await gateway.poll()

    [hour] = (await gateway.admin.get("/v1/admin/overview?hours=1")).json()["hours"]
    assert hour["completed"] == 2
    assert hour["detection_seconds"] == {"mean": 7, "most": 10}


async def test_a_span_is_two_days_at_most(gateway: Gateway) -> None:
    refused = await gateway.admin.get("/v1/admin/overview?hours=49")
    body = problem(refused)
    assert (body["status"], body["code"], body["parameter"]) == (422, "invalid_parameter", "hours")
