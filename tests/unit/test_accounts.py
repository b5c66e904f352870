"""How RUNCOMFY_API_TOKEN is read, and how jobs are shared out between accounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.lanes.accounts import share
from app.upstream.accounts import parse_accounts


@pytest.mark.parametrize(
    ("text", "accounts"),
    [
        ("abc", [("default", "abc", False)]),
        ("YWJjZA==", [("default", "YWJjZA==", False)]),
        ("team=YWJjZA==", [("team", "YWJjZA==", False)]),
        ("a=x, b=y", [("a", "x", False), ("b", "y", False)]),
        ("old=x;drain,new=x", [("old", "x", True), ("new", "x", False)]),
    ],
)
def test_a_pool_is_read(text: str, accounts: list[tuple[str, str, bool]]) -> None:
    read = parse_accounts(text)
    assert [(each.name, each.token.get_secret_value(), each.drains) for each in read] == accounts
    assert "YWJ" not in repr(read)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("changeme", "it is a placeholder"),
        ("a=changeme,b=s3cr3t", "the token of a is a placeholder"),
        ("a=s3cr3t,s3cr3t", "entry 2 must be `account=token`"),
        ("a=s3cr3t,b=", "the token of b must be visible"),
        ("a=s3cr3t,", "entry 2 must be"),
        ("a=s3cr3t,a=s3cr3t2", "each account may be given only once"),
        ("a=s3cr3t;drain", "every account drains"),
        ("a=s3cr3t;drian,b=s3cr3t", "the token of a must be visible"),
        ("a b=s3cr3t,c=s3cr3t", "entry 1 must be"),
        ("s3cr3t with spaces", "it must be visible"),
        ("s3cr3t\nX-Other: header", "it must be visible"),
        ("clé-s3cr3t", "it must be visible"),
        ("", "it must be visible"),
    ],
)
def test_a_wrong_pool_is_refused_without_its_tokens(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse_accounts(text)
    assert "s3cr3t" not in str(caught.value)


@given(
    st.integers(0, 50),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30)),
)
def test_shares_fill_places_and_level_what_is_in_flight(
    wanted: int, load: dict[str, int], free: dict[str, int]
) -> None:
    jobs = [str(number) for number in range(wanted)]
    shares = share(jobs, load=load, free=free)
    given_out = [job for ids in shares.values() for job in ids]
    assert sorted(given_out) == sorted(jobs[: sum(free.values())])
    assert all(len(ids) <= free[account] for account, ids in shares.items())
    after = {account: load.get(account, 0) + len(shares.get(account, ())) for account in free}
    for account in shares:
        for other, most in free.items():
            if len(shares.get(other, ())) < most:
                assert after[account] <= after[other] + 1
