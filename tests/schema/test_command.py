"""The `gateway` command as an operator meets it: what it prints, where, and how it ends."""

import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.bootstrap.database import sole_worker
from app.bootstrap.keys import secret_keys
from app.core.errors import ConfigurationError
from app.core.listening import listening
from app.db.schema import require_current
from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.commands import Command
from tests.support.processes import Server
from tests.support.rows import change

KEY = re.compile(r"rcg_[0-9a-z]{26}_[0-9A-Za-z_-]{43}\n")
SECRET = "0123456789abcdef" * 2
CHECKOUT = Path(__file__).parents[2]
DOCUMENT = CHECKOUT / "openapi" / "openapi.json"

TO_A_FULL_DISK = """
import os

os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
from app.cli import main

main()
"""

WITHOUT_EXTRA = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name in ("av", "PIL")
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from app.bootstrap.keys import secret_keys
from app.cli import main

for line in sys.argv[1:]:
    sys.argv = ["gateway", *line.split()]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 2, ended.code
"""


def test_a_key_is_all_that_is_printed(command: Command) -> None:
    first, second = (command("keys", "create", "--user", "alice") for _ in "12")
    assert (first.code, second.code) == (0, 0)
    assert KEY.fullmatch(first.stdout)
    assert KEY.fullmatch(second.stdout)
    assert first.stdout != second.stdout
    assert second.stdout.strip()[-43:] not in second.stderr
    stored = sqlite3.connect("gateway.db")
    assert stored.execute("SELECT user_id FROM api_keys").fetchall() == [("alice",)] * 2
    assert first.stdout.strip()[-43:] not in "".join(stored.iterdump())
    stored.close()


def test_a_secret_that_cannot_be_printed_is_told_with_the_way_to_another(tmp_path: Path) -> None:
    done = python(TO_A_FULL_DISK, "keys", "create", "--user", "alice", folder=tmp_path)
    made, told = done.stderr.splitlines()[-2:]
    key_id = json.loads(made)["id"]
    assert done.returncode == 2
    assert told == (
        f"gateway: The secret of {key_id} could not be written to stdout (No space left on device),"
        f" and cannot be shown again: `gateway keys rotate {key_id}` makes another."
    )


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (["serve"], {}, "RUNCOMFY_API_TOKEN is not set"),
        (["worker"], {}, "GATEWAY_UPSTREAM_URL=sandbox to work without an account"),
        (
            ["worker"],
            {"GATEWAY_DATABASE_URL": "postgresql://x"},
            "(runcomfy.com, Profile, API Tokens).",
        ),
        (["db", "upgrade"], {"GATEWAY_DATABASE_URL": "mysql://x/y"}, "GATEWAY_DATABASE_URL asks"),
        (["db", "upgrade"], {"GATEWAY_DATABASE_URL": "sqlite:////proc/x/y.db"}, "no database"),
        (["db", "upgrade"], {"GATEWAY_DATABASE_URL": "sqlite:///x.db?timeout=soon"}, "its options"),
        (
            ["db", "upgrade"],
            {"GATEWAY_DATABASE_URL": "postgresql://127.0.0.1/x?nosuch=1"},
            "its options",
        ),
        (["keys", "create", "--user", "a b"], {}, "A user id must be 1 to 128 letters"),
        (["keys", "create", "--user", "a/b"], {}, "A user id must be 1 to 128 letters"),
        (["keys", "create", "--user", "oidc"], {}, "'oidc' is reserved"),
        (
            ["serve", "--host", "0.0.0.0", "--port", "0"],
            {"RUNCOMFY_API_TOKEN": "a-real-token"},
            "GATEWAY_PUBLIC_URL is not set",
        ),
        (["sandbox", "--port", "0", "--data", "/proc/x"], {}, "Nothing can be kept in /proc/x (No"),
        (["demo", "--output", "no/such/folder.mp4"], {}, "choose another with --output"),
    ],
)
def test_what_the_operator_can_mend_is_one_sentence_and_exit_code_2(
    command: Command, arguments: list[str], settings: dict[str, str], told: str
) -> None:
    done = command(*arguments, settings=settings)
    assert (done.code, done.stdout) == (2, "")
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("gateway: ")
    assert told in sentence


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"RUNCOMFY_API_TOKEN": "changeme"}, "RUNCOMFY_API_TOKEN: it is a placeholder"),
        ({"GATEWAY_MAX_IN_FLIGHT": "0"}, "GATEWAY_MAX_IN_FLIGHT: "),
        ({"GATEWAY_LEASE_SECONDS": "soon"}, "GATEWAY_LEASE_SECONDS: "),
        ({"GATEWAY_DATABASE_URL": "mysql://x"}, "GATEWAY_DATABASE_URL asks for 'mysql'"),
        (
            {"GATEWAY_DATABASE_URL": "postgresql+asyncpg://x"},
            "GATEWAY_DATABASE_URL asks for 'postgresql+asyncpg'",
        ),
        ({"GATEWAY_DATABASE_URL": "sqlite://"}, "GATEWAY_DATABASE_URL names no file"),
        (
            {"GATEWAY_DATABASE_URL": "sqlite:////proc/x/y.db"},
            "GATEWAY_DATABASE_URL leads to /proc/x, where nothing can be written (No such file",
        ),
        ({"GATEWAY_SECRET_KEY": "short"}, "GATEWAY_SECRET_KEY: each key must be at least 32"),
        ({"GATEWAY_SECRET_KEY": ","}, "GATEWAY_SECRET_KEY: each key must be at least 32"),
        (
            {"GATEWAY_STORAGE_URL": "file:///proc/x"},
            "The storage folder /proc/x cannot be made (No such file or directory);",
        ),
        (
            {"GATEWAY_STORAGE_URL": "s3://key:secret@bucket"},
            "GATEWAY_STORAGE_URL: must be file:///",
        ),
        ({"GATEWAY_STORAGE_URL": "file://host/folder"}, "GATEWAY_STORAGE_URL: must be file:///"),
        (
            {"GATEWAY_ARCHIVE_OUTPUTS": "true", "GATEWAY_DATABASE_URL": "postgresql://x"},
            "GATEWAY_ARCHIVE_OUTPUTS is on, but there is no storage",
        ),
        ({"GATEWAY_DATABASE_URL": "postgresql://x"}, "GATEWAY_SECRET_KEY is not set"),
        (
            {"GATEWAY_UPSTREAM_URL": "sandbox", "GATEWAY_DATABASE_URL": "postgresql://x"},
            "GATEWAY_UPSTREAM_URL=sandbox keeps its requests beside the SQLite file",
        ),
        ({"GATEWAY_SUBMIT_RETRY_STATUSES": "429,200"}, "GATEWAY_SUBMIT_RETRY_STATUSES: "),
        ({"GATEWAY_METRICS_TOKEN": "changeme"}, "GATEWAY_METRICS_TOKEN: is a placeholder"),
        ({"GATEWAY_METRICS_TOKEN": "one,other"}, "GATEWAY_METRICS_TOKEN: must be one token"),
        (
            {"GATEWAY_PUBLIC_URL": "gateway.example"},
            "GATEWAY_PUBLIC_URL: must begin with https:// or http://.",
        ),
        (
            {"GATEWAY_PUBLIC_URL": "https://gateway.example?a=b"},
            "GATEWAY_PUBLIC_URL: must not have a",
        ),
        (
            {"GATEWAY_PUBLIC_URL": "https://gateway.example/#"},
            "GATEWAY_PUBLIC_URL: must not have a",
        ),
        ({"GATEWAY_PUBLIC_URL": "ftp://gateway.example"}, "GATEWAY_PUBLIC_URL: must begin with"),
        (
            {"GATEWAY_UPSTREAM_URL": "https://a.example?b=c"},
            "GATEWAY_UPSTREAM_URL: must not have a",
        ),
        ({"GATEWAY_ADMIN_TOKEN": f"system:{SECRET}"}, "GATEWAY_ADMIN_TOKEN: system is reserved"),
        (
            {"GATEWAY_UPSTREAM_URL": "https://model-api.runcomfy.net/v1/"},
            "GATEWAY_UPSTREAM_URL: must end before the /v1",
        ),
        (
            {"GATEWAY_UPSTREAM_URL": "https://u:p@a.example"},
            "GATEWAY_UPSTREAM_URL: must not have a",
        ),
        ({"GATEWAY_OUTPUT_HOSTS": "https://a.example"}, "'https://a.example' is not a host name"),
        ({"GATEWAY_SUBMIT_UNKNOWN_POLICY": "hope"}, "GATEWAY_SUBMIT_UNKNOWN_POLICY: "),
        ({"GATEWAY_ADMIN_TOKEN": "short"}, "GATEWAY_ADMIN_TOKEN: "),
        ({"GATEWAY_OIDC_ISSUER": "https://id.example"}, "GATEWAY_OIDC_AUDIENCE is not set"),
        (
            {"GATEWAY_OIDC_ISSUER": "http://id.example", "GATEWAY_OIDC_AUDIENCE": "a"},
            "GATEWAY_OIDC_ISSUER: keys that come by http",
        ),
        ({"GATEWAY_MODELS": "acme/*,acme/[x]"}, "GATEWAY_MODELS: 'acme/[x]' is not a model id"),
        ({"GATEWAY_MODELS": "acme/"}, "GATEWAY_MODELS: 'acme/' is not a model id, nor one with *"),
        ({"GATEWAY_MODELS": "acme"}, "GATEWAY_MODELS: 'acme' is not a model id, nor one with *"),
        ({"GATEWAY_CORS_ORIGINS": "*"}, "GATEWAY_CORS_ORIGINS: '*' would open it to every page"),
        (
            {"GATEWAY_CORS_ORIGINS": "https://app.example,https://*.app.example"},
            "GATEWAY_CORS_ORIGINS: 'https://*.app.example' is not one origin; write each by name",
        ),
        (
            {"GATEWAY_CORS_ORIGINS": "https://a.example https://b.example"},
            "GATEWAY_CORS_ORIGINS: 'https://a.example https://b.example' is not one origin",
        ),
        (
            {"GATEWAY_WEBHOOK_NETWORKS": "10.1.0.0/16,10.0.0.1/8"},
            "GATEWAY_WEBHOOK_NETWORKS: write '10.0.0.1/8' as '10.0.0.0/8'.",
        ),
        (
            {"GATEWAY_WEBHOOK_NETWORKS": "10.0.0.0/8,intranet"},
            "GATEWAY_WEBHOOK_NETWORKS: 'intranet' is not a network like 10.0.0.0/8.",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    command: Command, settings: dict[str, str], told: str
) -> None:
    token = {"RUNCOMFY_API_TOKEN": "a-real-token"}
    done = command("serve", "--port", "0", settings=token | settings)
    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("written", ["", "short", None])
def test_a_file_that_holds_no_key_stops_the_start(
    command: Command, tmp_path: Path, written: str | None
) -> None:
    key = tmp_path / "gateway.db.secret"
    if written is None:
        key.mkdir()
    else:
        key.write_text(written)
    done = command("serve", "--port", "0", settings={"RUNCOMFY_API_TOKEN": "a-real-token"})
    assert (done.code, done.stdout) == (2, "")
    reason = ", which holds the key" if written is None else " holds no key of 32 bytes"
    assert f"gateway: {key}{reason}" in done.stderr


def test_a_misspelt_setting_is_told_and_what_a_cluster_sets_is_not(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("GATEWAY_RETENTION_DAY=3\nGATEWAY_SERVICE_HOST=10.0.0.1\n")
    (tmp_path / "gateway.db.secret").touch()  # which ends the start
    settings = {
        "RUNCOMFY_API_TOKEN": "a-real-token",
        "GATEWAY_API_TOKEN": "another-token",
        "GATEWAY_MAX_INFLIGHT": "5",
        "GATEWAY_NOTES": "ours",
        "GATEWAY_PORT": "tcp://10.0.0.1:8000",
        "GATEWAY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "GATEWAY_METRICS_SERVICE_PORT_HTTP": "9100",
    }
    done = command("serve", "--port", "0", settings=settings)
    lines = [json.loads(line) for line in done.stderr.splitlines() if "settings.unknown" in line]
    assert [(line["level"], line["name"], line["perhaps_meant"]) for line in lines] == [
        ("warning", "GATEWAY_API_TOKEN", "RUNCOMFY_API_TOKEN"),
        ("warning", "GATEWAY_MAX_INFLIGHT", "GATEWAY_MAX_IN_FLIGHT"),
        ("warning", "GATEWAY_NOTES", None),
        ("warning", "GATEWAY_RETENTION_DAY", "GATEWAY_RETENTION_DAYS"),
    ]


def test_no_other_name_sets_the_token(command: Command) -> None:
    done = command("serve", "--port", "0", settings={"GATEWAY_API_TOKEN": "perhaps-a-key-of-ours"})
    assert (done.code, done.stdout) == (2, "")
    assert "gateway: RUNCOMFY_API_TOKEN is not set" in done.stderr


def test_settings_that_cannot_be_read_are_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("RUNCOMFY_API_TOKEN=a-real-token".encode("utf-16"))
    done = command("keys", "list")
    assert (done.code, done.stdout) == (2, "")
    assert "The file .env in this folder cannot be read (it is not UTF-8)" in done.stderr


@pytest.mark.parametrize(
    "rest", ["p@ss:w0rd@host/x", "p@ssw0rd@host/x", "w0rd", "u:w0rd@host:w0rd/x"]
)
def test_a_wrong_database_address_tells_nothing_of_its_password(
    command: Command, rest: str
) -> None:
    done = command("keys", "list", settings={"GATEWAY_DATABASE_URL": f"postgresql://u:{rest}"})
    assert done.code == 2
    assert "w0rd" not in done.stdout + done.stderr
    assert "%40" in done.stderr


def test_a_database_that_is_away_is_no_wrong_setting(command: Command) -> None:
    done = command("keys", "list", settings={"GATEWAY_DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert (done.code, done.stdout) == (os.EX_TEMPFAIL, "")
    assert "port 1 failed: Connection refused); start it" in done.stderr


def test_a_database_that_takes_no_writes_is_told_in_its_own_words(command: Command) -> None:
    assert command("keys", "create", "--user", "x").code == 0
    settings = {
        "GATEWAY_DATABASE_URL": "sqlite:///file:gateway.db?mode=ro&uri=true",
        "RUNCOMFY_API_TOKEN": "a-real-token",
    }
    for arguments in (["keys", "create", "--user", "x"], ["serve", "--port", "0"]):
        done = command(*arguments, settings=settings)
        assert (done.code, done.stdout) == (os.EX_TEMPFAIL, "")
        sentence = done.stderr.splitlines()[-1]
        assert "does not answer" in sentence
        assert "(attempt to write a readonly database)" in sentence


def test_a_file_that_is_no_database_is_named_with_the_reason(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "gateway.db").write_text("Dear diary, " * 100)
    done = command("keys", "list")
    assert (done.code, done.stdout) == (2, "")
    assert f"({tmp_path}/gateway.db: file is not a database)" in done.stderr


def test_a_database_of_somebody_else_is_left_alone(
    command: Command, empty_database_url: str
) -> None:
    change(empty_database_url, "CREATE TABLE jobs (id INTEGER)")
    done = command("db", "upgrade", settings={"GATEWAY_DATABASE_URL": empty_database_url})
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("gateway: The database's schema cannot be brought up to date (")
    assert "already exists)" in done.stderr
    change(empty_database_url, "DROP TABLE jobs")
    assert command("db", "upgrade", settings={"GATEWAY_DATABASE_URL": empty_database_url}).code == 0


@pytest.mark.parametrize("name", ["serve", "worker"])
def test_what_stands_in_the_way_of_the_last_step_of_a_start_is_one_sentence(
    command: Command, name: str
) -> None:
    Path("gateway.db.sandbox").touch()  # where the folder of that name would be
    done = command(name, "--port=0", settings={"GATEWAY_UPSTREAM_URL": "sandbox"})
    assert (done.code, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "gateway: Nothing can be kept in gateway.db.sandbox (File exists);"
    )


@pytest.mark.parametrize("name", ["serve", "worker"])
def test_two_gateways_on_one_file_are_refused(command: Command, name: str) -> None:
    with sole_worker(explicit_settings()):
        done = command(name, "--port=0", settings={"RUNCOMFY_API_TOKEN": "a-real-token"})
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "gateway: Another gateway already uses gateway.db, and SQLite is for one;"
        " stop that one, or use Postgres for several."
    )


def test_a_file_has_one_lock_by_whatever_name_until_it_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "gateway.db")
    named, linked = (
        explicit_settings(database_url=f"sqlite:///{tmp_path}/{name}.db")
        for name in ("gateway", "link")
    )
    with (
        sole_worker(named),
        pytest.raises(ConfigurationError, match="Another gateway already uses"),
        sole_worker(linked),
    ):
        pass
    with sole_worker(linked):
        pass


def test_the_folder_of_the_database_is_made_with_it(command: Command) -> None:
    settings = {
        "RUNCOMFY_API_TOKEN": "a-real-token",
        "GATEWAY_DATABASE_URL": "sqlite:///new/data/gateway.db",
    }
    nobodys = "192.0.2.1"  # which ends the start
    done = command("serve", "--host", nobodys, "--port", "0", settings=settings)
    assert done.stderr.startswith(f"gateway: Cannot listen on {nobodys}")


@pytest.mark.parametrize("name", ["serve", "worker", "sandbox"])
def test_a_port_that_is_taken_is_told(command: Command, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command(name, "--port", port, settings={"RUNCOMFY_API_TOKEN": "a-real-token"})
    assert (done.code, done.stdout) == (2, "")
    told = f"Cannot listen on 127.0.0.1 port {port} (Address already in use); choose another --host"
    assert told in done.stderr


def test_a_port_is_taken_from_the_first_moment_on() -> None:
    """Not only once it is served: two that start together would both believe that they have it."""
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match="Address already in use"),
            listening("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("name", ["serve", "worker", "sandbox"])
def test_an_address_of_another_machine_is_told_with_what_to_change(
    command: Command, name: str
) -> None:
    settings = {"RUNCOMFY_API_TOKEN": "a-real-token"}
    done = command(name, "--host", "203.0.113.7", "--port", "9", settings=settings)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.rstrip().endswith(
        "Cannot listen on 203.0.113.7 port 9 (Cannot assign requested address);"
        " choose another --host or --port."
    )


@pytest.mark.parametrize("name", ["serve", "worker", "sandbox"])
def test_a_port_that_is_none_is_refused(command: Command, name: str) -> None:
    done = command(name, "--port", "99999")
    assert done.code == 2
    assert "'--port'" in done.stderr


def test_postgres_is_migrated_by_command_and_refused_before(
    command: Command, empty_database_url: str
) -> None:
    settings = {
        "GATEWAY_DATABASE_URL": empty_database_url,
        "GATEWAY_SECRET_KEY": SECRET,
        "RUNCOMFY_API_TOKEN": "a-real-token",
    }
    if not empty_database_url.startswith("sqlite"):
        for arguments in (["serve", "--port", "0"], ["worker"], ["keys", "create", "--user", "x"]):
            done = command(*arguments, settings=settings)
            assert done.code == 2
            assert "run `gateway db upgrade` first" in done.stderr
    for _ in "12":
        done = command("db", "upgrade", settings=settings)
        assert (done.code, done.stdout) == (0, "")
        assert done.stderr.splitlines()[-1] == "The database's schema is up to date."
    require_current(empty_database_url)
    assert KEY.fullmatch(command("keys", "create", "--user", "x", settings=settings).stdout)


def test_webhook_secrets_that_open_with_no_key_are_named(
    command: Command, database_url: str
) -> None:
    settings = {"GATEWAY_DATABASE_URL": database_url, "GATEWAY_SECRET_KEY": SECRET}
    assert command("keys", "create", "--user", "bob", settings=settings).code == 0
    done = command("webhooks", "reseal", settings=settings)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == "0 sealed anew, 0 were up to date.\n"
    row = "VALUES ('bob', 'x', NULL, NULL, CURRENT_TIMESTAMP)"
    change(database_url, f"INSERT INTO webhook_secrets {row}")
    done = command("webhooks", "reseal", settings=settings)
    assert done.code == 2
    assert "1 cannot be opened with any key in GATEWAY_SECRET_KEY (bob)" in done.stderr


def test_the_version_is_that_of_the_package(command: Command) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    done = command("--version")
    assert (done.code, done.stdout, done.stderr) == (0, f"{project['version']}\n", "")


def test_the_document_is_printed_whatever_is_set(command: Command, tmp_path: Path) -> None:
    wrong = {"GATEWAY_MAX_IN_FLIGHT": "no number", "GATEWAY_DATABASE_URL": "none"}
    done = command("openapi", settings=wrong)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == DOCUMENT.read_text()
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_the_sandbox_stops_with_the_install_command(tmp_path: Path) -> None:
    done = python(
        WITHOUT_EXTRA,
        *("serve --port 0", "sandbox", "demo"),
        folder=tmp_path,
        GATEWAY_UPSTREAM_URL="sandbox",
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("gateway: ")]
    assert len(told) == 3
    assert all("pip install 'runcomfy-gateway[sandbox]'" in sentence for sentence in told)
    assert "Traceback" not in done.stderr


def test_who_asks_for_help_does_not_wait_for_the_gateway(tmp_path: Path) -> None:
    done = python("from app.cli import main\nimport sys\nprint(*sys.modules)", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "app.cli.keys" in imported
    assert not imported & {"aiohttp", "fastapi", "httpx", "pydantic", "sqlalchemy", "structlog"}


async def test_what_fails_beside_a_running_gateway_is_told_as_it_is(tmp_path: Path) -> None:
    """Not as a group, of which `main` would make no sentence."""
    settings = explicit_settings(
        upstream_url="http://127.0.0.1:9",
        api_token="rc-test",
        database_url=f"sqlite:///{tmp_path}/gateway.db",
    )
    with pytest.raises(ConfigurationError, match="The job of a demo has failed"):
        async with running_gateway(settings):
            raise ConfigurationError("The job of a demo has failed.")


def test_what_only_some_need_is_imported_by_them_and_no_setting_by_any(tmp_path: Path) -> None:
    """What is imported by all stays in memory; see where each is imported."""
    wrong = {"GATEWAY_MAX_IN_FLIGHT": "no number", "GATEWAY_DATABASE_URL": "none"}
    done = python(_AT_REST, folder=tmp_path, **wrong)
    assert done.returncode == 0, done.stderr
    at_first, at_rest = (
        set(line.split()) for line in done.stdout.splitlines() if line.startswith("imported: ")
    )
    assert "app.main" in at_first
    assert not at_first & {"alembic", "cryptography", "jwt", "obstore", "psycopg"}
    assert "app.storage.opening" in at_rest
    assert not at_rest & {"cryptography", "jwt", "obstore", "psycopg"}


_AT_REST = """
import asyncio, sys
from app.server import running_gateway
from app.settings import explicit_settings

def show():
    print("imported:", *(name for name, module in sys.modules.items() if module))

async def rest():
    settings = explicit_settings(upstream_url="http://127.0.0.1:9", api_token="rc-test")
    async with running_gateway(settings):
        show()

show()
asyncio.run(rest())
"""


def python(
    code: str, *arguments: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_options_of_an_sqlite_address_are_no_part_of_the_files_name() -> None:
    settings = explicit_settings(
        database_url="sqlite:////data/gateway.db?timeout=5", upstream_url="http://127.0.0.1:9"
    )
    assert settings.sqlite_path == Path("/data/gateway.db")


async def test_the_key_beside_sqlite_is_for_its_owner_alone(tmp_path: Path) -> None:
    server = Server(
        ("serve",),
        tmp_path / "gateway",
        health="/readyz",
        environment={"GATEWAY_UPSTREAM_URL": "sandbox"},
    )
    try:
        await server.start()
        await server.ready()
        made = server.folder / "gateway.db.secret"
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
        assert len(made.read_bytes()) >= 32
        settings = explicit_settings(database_url=f"sqlite:///{server.folder}/gateway.db")
        with pytest.raises(ConfigurationError, match="Another gateway already uses"):
            sole_worker(settings).__enter__()
    finally:
        await server.stop(signal.SIGINT)
    assert "Traceback" not in (server.folder / "log").read_text()


def test_the_key_beside_sqlite_may_become_the_old_one_of_a_list(tmp_path: Path) -> None:
    (beside,) = secret_keys(explicit_settings(database_url=f"sqlite:///{tmp_path}/gateway.db"))
    written = (tmp_path / "gateway.db.secret").read_text()
    _, second = secret_keys(explicit_settings(secret_key=f"{SECRET},{written}"))
    assert second == beside
