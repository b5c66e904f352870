"""A shared rate, exact in integers: the generic cell rate algorithm (ITU-T I.371, annex A)."""

_ASTRAY_US = 5 * 60 * 1_000_000


def take(
    wanted: int, *, arrival_us: int, now_us: int, interval_us: int, burst: int
) -> tuple[int, int]:
    """Grant up to `wanted` units now; return how many, and the new theoretical arrival time.

    One unit is earned every `interval_us` microseconds and at most `burst` are saved up;
    `arrival_us` is what the last call returned, or 0. One that is minutes later than this rate can
    lead to comes from a clock that was wrong, and is ignored.
    """
    full_us = now_us + burst * interval_us
    start = now_us if arrival_us > full_us + _ASTRAY_US else max(arrival_us, now_us)
    room = full_us - start
    granted = max(0, min(wanted, room // interval_us))
    return granted, start + granted * interval_us


def shared_now(now_us: int, *, seen_us: int) -> int:
    """Return the time for all who share a rate: a clock that is behind adopts what it has `seen`.

    Unless that is minutes ahead: then the other clock was wrong.
    """
    return seen_us if now_us < seen_us <= now_us + _ASTRAY_US else now_us
