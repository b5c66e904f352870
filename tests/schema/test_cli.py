"""`gateway plans|users|keys`: the admin API's services behind a command."""

import getpass
import json
import os
import sqlite3
from contextlib import closing

import pytest

from tests.support.commands import Command
from tests.support.gateway import SEEDANCE


def test_a_plan_a_user_and_a_key_are_made_and_listed(command: Command) -> None:
    def run(*words: str) -> str:
        done = command(*words)
        assert done.code == 0, done.stderr
        return done.stdout

    limits = ("--limit", "jobs_per_day=10", "--limit", "spend_usd_per_day=2.50:shadow")
    plan = json.loads(run("plans", "create", "free", "--timezone", "Europe/Berlin", *limits))
    assert plan["limits"] == {
        "jobs_per_day": {"limit": 10, "mode": "enforce"},
        "spend_usd_per_day": {"limit": "2.50", "mode": "shadow"},
    }
    assert json.loads(run("plans", "list")) == plan
    user = json.loads(run("users", "create", "bob", "--name", "Bob", "--plan", "free"))
    assert (user["id"], user["plan"]) == ("bob", "free")
    assert json.loads(run("users", "list", "--plan", "free")) == user

    key = run("keys", "create", "--user", "alice", "--name", "ci").strip()
    assert key.startswith("rcg_")
    listed = json.loads(run("keys", "list", "--user", "alice"))
    assert (listed["user"], listed["name"]) == ("alice", "ci")
    rotated = run("keys", "rotate", listed["id"], "--overlap-seconds", "0").strip()
    assert rotated.startswith("rcg_")
    assert rotated != key
    assert run("keys", "revoke", listed["id"]) == ""
    assert json.loads(run("keys", "list"))["revoked_at"] is not None

    with closing(sqlite3.connect("gateway.db")) as database, database:
        database.execute(  # as a key of bob's that acts for u1 makes it
            "INSERT INTO users (id, disabled, created_at)"
            " SELECT 'bob/u1', disabled, created_at FROM users WHERE id = 'bob'"
        )
    assert run("keys", "create", "--user", "bob/u1").startswith("rcg_")

    with closing(sqlite3.connect("gateway.db")) as database:
        rows = list(database.execute("SELECT actor, action FROM audit_log ORDER BY id"))
    assert rows == [
        (f"cli:{getpass.getuser()}", action)
        for action in (
            "plan.created",
            "user.created",
            "user.created",
            "key.created",
            "key.rotated",
            "key.revoked",
            "key.created",
        )
    ]


def test_who_is_a_number_without_a_name_may_make_keys(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In our image it is one."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert command("keys", "create", "--user", "bob").stdout.startswith("rcg_")
    with closing(sqlite3.connect("gateway.db")) as database:
        rows = set(database.execute("SELECT actor FROM audit_log"))
    assert rows == {("cli:unknown",)}


def test_what_was_made_is_changed_and_deleted(command: Command) -> None:
    def run(*words: str) -> str:
        done = command(*words)
        assert done.code == 0, done.stderr
        return done.stdout

    made = ("--default", "--limit", "jobs_per_day=10", "--limit", "concurrent_jobs=2")
    run("plans", "create", "free", *made, "--model", SEEDANCE)
    run("plans", "create", "team")
    limits = ("--limit", "jobs_per_day=none", "--limit", "pending_jobs=3")
    plan = json.loads(run("plans", "change", "free", "--timezone", "Asia/Tokyo", *limits))
    assert plan == {
        "name": "free",
        "timezone": "Asia/Tokyo",
        "default": True,
        "models": [SEEDANCE],
        "limits": {
            "concurrent_jobs": {"limit": 2, "mode": "enforce"},
            "pending_jobs": {"limit": 3, "mode": "enforce"},
        },
    }
    changed = json.loads(run("plans", "change", "free", "--no-default", "--model", "all"))
    assert changed == plan | {"default": False, "models": None}

    run("users", "create", "bob", "--name", "Bob", "--plan", "free")
    user = json.loads(run("users", "change", "bob", "--disable", "--limit", "jobs_per_day=1"))
    assert user == {
        "id": "bob",
        "name": "Bob",
        "plan": "free",
        "disabled": True,
        "limits": {"jobs_per_day": {"limit": 1, "mode": "enforce"}},
    }
    changed = json.loads(run("users", "change", "bob", "--enable", "--plan", "", "--name", "B"))
    assert changed == user | {"name": "B", "plan": None, "disabled": False}

    run("keys", "create", "--user", "bob", "--expires-at", "2100-01-01T00:00:00Z")
    key = json.loads(run("keys", "list"))
    words = ("--name", "ci", "--scope", "act_as", "--plan", "team", "--model", SEEDANCE)
    changed = json.loads(run("keys", "change", key["id"], *words))
    wanted = {"name": "ci", "scopes": ["act_as"], "plan": "team", "models": [SEEDANCE]}
    assert changed == key | wanted
    words = ("--plan", "", "--expires-at", "", "--model", "all")
    changed = json.loads(run("keys", "change", key["id"], *words))
    assert changed == key | wanted | {"plan": None, "expires_at": None, "models": None}

    assert run("users", "delete", "bob") == run("users", "list") == run("keys", "list") == ""
    assert run("plans", "delete", "free") == ""
    assert [json.loads(run("plans", "list"))["name"]] == ["team"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("plans", "create", "a b"), "/name must be"),
        (("plans", "create", "x", "--limit", "jobs_per_day"), "must be like jobs_per_day=10"),
        (("plans", "create", "x", "--limit", "jobs_per_hour=1"), "is not a limit"),
        (("plans", "create", "x", "--limit", "jobs_per_day=ten"), "must be a whole number"),
        (("users", "create", "shop/u1"), "A user id must be"),
        (("keys", "create", "--user", "shop/u1"), "A user id must be"),
        (("keys", "create", "--user", "bob", "--expires-at", "soon"), "--expires-at must be"),
        (("keys", "create", "--user", "bob", "--scope", "root"), "/scopes/0"),
        (("keys", "revoke", "key_nope"), "no key 'key_nope'; the list of keys has their ids."),
        (("keys", "change", "key_nope"), "There is no key"),
        (("users", "change", "bob"), "no user 'bob'; the list of users has their ids."),
        (("users", "delete", "bob"), "There is no user"),
        (("plans", "change", "free"), "no plan 'free'; the list of plans has their names."),
        (("plans", "delete", "free"), "There is no plan"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    command: Command, words: tuple[str, ...], sentence: str
) -> None:
    done = command(*words)
    assert (done.code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
