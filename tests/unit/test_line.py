"""Whose turn it is, decided on plain values."""

from datetime import UTC, datetime
from typing import Any

from app.jobs.models import Priority
from app.jobs.waiting.fairness import Load, Waiting, choose, turns_of


def line(user: str, *numbers: int, key: str = "", priority: int = Priority.NORMAL) -> list[Waiting]:
    return [
        Waiting(
            job_id=f"{number:03}-{user}", user_id=user, key_id=key or user, priority=int(priority)
        )
        for number in numbers
    ]


def load(**given: Any) -> Load:
    empty: dict[str, Any] = {"by_user": {}, "by_key": {}, "user_limits": {}, "key_limits": {}}
    return Load(**empty | given)


def order(waiting: list[Waiting], *, free: int, **given: Any) -> list[str]:
    return [job.job_id for job in choose(waiting, load=load(**given), free=free)]


def test_users_take_turns_from_the_oldest_line_on() -> None:
    waiting = line("a", 1, 2, 3) + line("b", 4, 5) + line("c", 6)
    assert order(waiting, free=5) == ["001-a", "004-b", "006-c", "002-a", "005-b"]
    assert order(waiting, free=2, by_user={"a": 1}) == ["004-b", "006-c"]


def test_who_had_no_turn_for_longest_comes_first_among_equals() -> None:
    turns = {
        "a": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "b": datetime(2026, 11, 22, 9, tzinfo=UTC),
    }
    waiting = line("a", 1, 2) + line("b", 3, 4) + line("c", 5)
    assert order(waiting, free=4, turns=turns) == ["005-c", "003-b", "001-a", "004-b"]


def test_a_turn_in_this_round_is_later_than_all_before() -> None:
    turns = {
        "a": datetime(2026, 11, 22, 9, tzinfo=UTC),
        "b": datetime(2026, 11, 22, 10, tzinfo=UTC),
    }
    waiting = line("a", 1, 2) + line("b", 3, 4)
    assert order(waiting, free=2, turns=turns, by_user={"b": 1}) == ["001-a", "003-b"]


def test_while_few_are_taken_what_is_in_flight_gives_nobody_a_turn() -> None:
    waiting = line("a", 1, 2) + line("b", 3, 4)
    given = {"by_user": {"b": 5}, "takes_few": True}
    assert order(waiting, free=4, **given) == ["001-a", "003-b", "002-a", "004-b"]
    turns = {"a": datetime(2026, 11, 22, 9, tzinfo=UTC)}
    assert order(waiting, free=1, turns=turns, **given) == ["003-b"]


def test_no_two_users_have_had_their_turns_at_once() -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    turns = turns_of([*line("a", 1), *line("b", 3), *line("a", 2)], at=at)
    assert at < turns["b"] < turns["a"]


def test_users_of_one_key_share_its_places() -> None:
    waiting = line("a", 1, 2, 3, key="shop") + line("b", 4, 5, key="shop") + line("c", 6)
    assert order(waiting, free=9, key_limits={"shop": 2}) == ["001-a", "004-b", "006-c"]
    busy = {"by_user": {"a": 2}, "by_key": {"shop": 2}}
    assert order(waiting, free=9, key_limits={"shop": 3}, **busy) == ["004-b", "006-c"]


def test_an_urgent_job_takes_no_place_of_a_key_from_another_user() -> None:
    waiting = line("a", 3, 4, key="shop", priority=Priority.HIGH) + line("b", 1, key="shop")
    assert order(waiting, free=9, key_limits={"shop": 1}) == ["001-b"]


def test_a_job_of_a_full_key_lets_the_next_of_its_user_pass() -> None:
    waiting = line("a", 1, 2, key="full") + line("a", 3, 4, key="open") + line("b", 5, key="full")
    full = {"by_key": {"full": 1}, "key_limits": {"full": 1}, "user_limits": {"a": 1}}
    assert order(waiting, free=9, **full) == ["003-a"]
