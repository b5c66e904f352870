"""The pages have no build: their scripts write out again the words that the API knows."""

import re
from collections.abc import Collection
from typing import get_args

import pytest

from app import web
from app.auth.scopes import DEFAULT_SCOPES, Scope
from app.jobs.lanes.lane import Reason
from app.jobs.state import JobState
from app.quotas.policy import LimitName
from app.webhooks.models import DeliveryState


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        ("shared/view.js", "COLOURS", {state.status for state in JobState}),
        ("console/limits.js", "NAMES", set(LimitName)),
        ("console/keys.js", "SCOPES", set(Scope)),
        ("console/keys.js", "USUAL", set(DEFAULT_SCOPES)),
        ("console/overview.js", "REASONS", {"operator", *Reason}),
        ("console/deliveries.js", "COLOURS", set(get_args(DeliveryState))),
    ],
)
def test_a_script_leaves_out_no_word_of_the_api(
    script: str, name: str, words: Collection[str]
) -> None:
    text = (web.FOLDER / script).read_text("utf-8")
    (listed,) = re.findall(rf"^const {name} = (.*?);$", text, re.MULTILINE | re.DOTALL)
    written = {"".join(each) for each in re.findall(r'"([a-z_:]+)"|\b([a-z_]+):', listed)}
    assert set(words) - written == set()
