"""A lane to upstream: how long it stays closed, and what comes through once it opens."""

from datetime import UTC, datetime, timedelta

from app.jobs.lanes.lane import Lane, Reason, admit, opened, refused, slowed, told_to_wait, tripped

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


def pause(lane: Lane, at: datetime) -> float:
    assert lane.closed_until is not None
    return (lane.closed_until - at).total_seconds()


def closed(*, times: int) -> tuple[Lane, datetime, list[float]]:
    """Return a lane after so many failed probes in a row, when that was, and each pause."""
    lane, at, pauses = Lane(), START, []
    for _ in range(times):
        lane = tripped(lane, at=at)
        pauses.append(pause(lane, at))
        at += timedelta(seconds=pauses[-1])
        granted, lane = admit(lane, 10, at=at, rate=None)
        assert granted == 1
        at += timedelta(seconds=10)  # of waiting for an answer
    return lane, at, pauses


def test_each_probe_that_fails_doubles_the_pause_up_to_a_minute() -> None:
    _, _, pauses = closed(times=8)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_nothing_follows_a_probe_until_it_has_had_its_time() -> None:
    lane, granted = tripped(Lane(), at=START), []
    for second in (2, 3, 31, 32):
        number, lane = admit(lane, 10, at=START + timedelta(seconds=second), rate=None, probes=3)
        granted.append(number)
    assert granted == [3, 0, 0, 3]


def test_a_refused_account_alone_is_shut_when_its_pause_is_over() -> None:
    waits = told_to_wait(Lane(), wait=timedelta(seconds=60), at=START)
    token = refused(Lane(), reason=Reason.TOKEN, at=START)
    over = START + timedelta(seconds=60)
    assert [lane.is_shut(at) for lane in (waits, token) for at in (START, over)] == [
        *(True, False, True, True)
    ]


def test_who_closes_again_while_it_is_filled_pauses_for_longer() -> None:
    lane, at, _ = closed(times=1)
    lane = tripped(opened(lane, at=at), at=at + timedelta(seconds=15))
    assert pause(lane, at + timedelta(seconds=15)) == 4


def test_who_was_well_for_as_long_as_it_was_closed_begins_anew() -> None:
    lane, at, pauses = closed(times=5)
    lane = opened(lane, at=at)
    soon, later = (at + timedelta(seconds=pauses[-1] + by) for by in (-1, 0))
    assert pause(tripped(lane, at=soon), soon) == 60
    assert pause(tripped(lane, at=later), later) == 2


def test_an_open_lane_is_filled_twice_as_fast_every_two_seconds() -> None:
    lane, at, _ = closed(times=1)
    lane = opened(lane, at=at)
    granted = []
    for second in range(20):
        number, lane = admit(lane, 1000, at=at + timedelta(seconds=second), rate=None)
        granted.append(number)
    assert granted[:6] == [2, 2, 4, 4, 8, 8]
    assert granted[16:] == [1000] * 4


def test_who_is_slowed_lets_two_go_each_second_and_stays_open() -> None:
    lane, granted = Lane(), []
    for second in range(6):
        at = START + timedelta(seconds=second)
        lane = slowed(lane, at=at)
        number, lane = admit(lane, 1000, at=at, rate=None)
        granted.append(number)
        assert not lane.is_closed(at)
    assert granted == [2] * 6


def test_who_is_closed_is_not_opened_by_being_slowed() -> None:
    lane = tripped(Lane(), at=START)
    assert slowed(lane, at=START) is lane


def test_who_is_told_to_wait_never_waits_for_less() -> None:
    lane = told_to_wait(Lane(), wait=timedelta(seconds=100), at=START)
    soon = START + timedelta(seconds=1)
    assert told_to_wait(lane, wait=timedelta(seconds=99), at=soon) is lane
    assert pause(told_to_wait(lane, wait=timedelta(seconds=100), at=soon), soon) == 100


def test_a_refused_account_is_one_whatever_comes_of_its_probes() -> None:
    """Else its lane would open by itself, or no operator could open it."""
    lane = refused(Lane(), reason=Reason.BALANCE, at=START)
    waited = START + timedelta(seconds=60)
    assert tripped(lane, at=waited).reason is Reason.BALANCE
    told = told_to_wait(lane, wait=timedelta(seconds=100), at=waited)
    assert told.reason is Reason.BALANCE
    assert admit(told, 1000, at=waited + timedelta(seconds=100), rate=None)[0] == 1


def test_what_another_clock_will_open_in_a_moment_is_filled_as_any_lane() -> None:
    lane = opened(Lane(), at=START + timedelta(seconds=1))
    assert admit(lane, 1000, at=START, rate=None)[0] == 1000


def test_replicas_whose_clocks_differ_share_one_rate() -> None:
    """Each gets some of it, and together they get no more than by one clock."""
    lane, granted = Lane(), {0: 0, 5: 0}
    for tenth in range(100):
        for ahead in granted:
            at = START + timedelta(seconds=ahead + tenth / 10)
            number, lane = admit(lane, 3, at=at, rate=50)
            granted[ahead] += number
    assert min(granted.values()) > 150
    assert sum(granted.values()) <= 10 * 50 + 50
