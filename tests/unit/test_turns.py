"""Each caller's turn, and what is left of it."""

import weakref

from app.db.turns import Turns


def test_a_callers_turn_is_the_same_while_anybody_has_it_and_forgotten_after() -> None:
    turns = Turns()
    turn = turns.of("alice")
    assert turns.of("alice") is turn
    assert turns.of("bob") is not turn
    kept = weakref.ref(turn)
    del turn
    assert kept() is None
