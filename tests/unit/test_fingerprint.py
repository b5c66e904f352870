"""Two bodies that mean the same have one fingerprint."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.jobs.fingerprint import fingerprint

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_the_order_of_keys_means_nothing(body: object) -> None:
    assert fingerprint("jobs", shuffled(body)) == fingerprint("jobs", body)


@given(json_values, json_values)
def test_other_bodies_have_other_fingerprints(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint("jobs", one) == fingerprint("jobs", other)) == same


def test_numbers_are_compared_by_value_and_types_are_told_apart() -> None:
    assert fingerprint("jobs", {"duration": 5.0}) == fingerprint("jobs", {"duration": 5})
    assert fingerprint("jobs", -0.0) == fingerprint("jobs", 0)
    different = [5, "5", True, 1, None, "", [], {}, [5], 5.5, False]
    assert len({fingerprint("jobs", each) for each in different}) == len(different)


def test_the_route_counts_and_cannot_be_spelled_into_the_body() -> None:
    assert fingerprint("jobs", {}) != fingerprint("models/m", {})
    assert fingerprint("a\nb", "c") != fingerprint("a", "b\nc")
