"""Settings are read once, at start, and what is wrong with them is said in a sentence."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

GATEWAY = [sys.executable, "-c", "from app.cli import main; main()"]


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    clean |= {"PYTHONPATH": root} | environment
    return subprocess.run(
        [*GATEWAY, *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "RUNCOMFY_API_TOKEN is not set"),
        ({}, "GATEWAY_UPSTREAM_URL=sandbox to work without an account"),
        ({"RUNCOMFY_API_TOKEN": "changeme"}, "RUNCOMFY_API_TOKEN: it is a placeholder"),
        ({"GATEWAY_MAX_IN_FLIGHT": "0"}, "GATEWAY_MAX_IN_FLIGHT: "),
        ({"GATEWAY_LEASE_SECONDS": "soon"}, "GATEWAY_LEASE_SECONDS: "),
        ({"GATEWAY_DATABASE_URL": "mysql://x"}, "GATEWAY_DATABASE_URL asks for 'mysql'"),
        ({"GATEWAY_DATABASE_URL": "sqlite://"}, "GATEWAY_DATABASE_URL names no file"),
        ({"GATEWAY_SECRET_KEY": "short"}, "GATEWAY_SECRET_KEY: each key must be at least 32"),
        ({"GATEWAY_SECRET_KEY": ","}, "GATEWAY_SECRET_KEY: names no key"),
        ({"GATEWAY_PUBLIC_URL": "gateway.example"}, "GATEWAY_PUBLIC_URL: "),
        ({"GATEWAY_PUBLIC_URL": "https://gateway.example?a=b"}, "GATEWAY_PUBLIC_URL: must be like"),
        ({"GATEWAY_OUTPUT_HOSTS": "https://a.example"}, "'https://a.example' is no host name"),
        ({"GATEWAY_SUBMIT_UNKNOWN_POLICY": "hope"}, "GATEWAY_SUBMIT_UNKNOWN_POLICY: "),
        ({"GATEWAY_ADMIN_TOKEN": "short"}, "GATEWAY_ADMIN_TOKEN: "),
        ({"GATEWAY_OIDC_ISSUER": "https://id.example"}, "GATEWAY_OIDC_AUDIENCE is not set"),
        (
            {"GATEWAY_OIDC_ISSUER": "http://id.example", "GATEWAY_OIDC_AUDIENCE": "a"},
            "GATEWAY_OIDC_ISSUER: keys that come by http",
        ),
        ({"GATEWAY_MODELS": "acme/*,acme/[x]"}, "GATEWAY_MODELS: 'acme/[x]' is no model id"),
        ({"GATEWAY_CORS_ORIGINS": "*"}, "GATEWAY_CORS_ORIGINS: '*' would open it to every page"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    token = (
        {}
        if not environment or "RUNCOMFY_API_TOKEN" in environment
        else {"RUNCOMFY_API_TOKEN": "t"}
    )
    ended = run("serve", "--port", "0", folder=tmp_path, **token, **environment)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_is_made_with_its_user_and_printed_alone(tmp_path: Path) -> None:
    made = run("keys", "create", "--user", "alice", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("rcg_")
    assert made.stdout.count("\n") == 1
    refused = run("keys", "create", "--user", "a/b", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_importing_the_gateway_reads_no_environment(tmp_path: Path) -> None:
    poisoned = {"GATEWAY_MAX_IN_FLIGHT": "no number", "GATEWAY_DATABASE_URL": "none"}
    assert run("--help", folder=tmp_path, **poisoned).returncode == 0
    assert run("openapi", folder=tmp_path, **poisoned).returncode == 0


def test_the_secret_beside_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    from_where = "from app.bootstrap.keys import key_beside; from pathlib import Path\n"
    twice = "a, b = (key_beside(Path('g.db')).get_secret_value() for _ in 'ab')\n"
    check = "assert a == b and len(a) == 64"
    subprocess.run(
        [sys.executable, "-c", from_where + twice + check],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert stat.S_IMODE((tmp_path / "g.db.secret").stat().st_mode) == 0o600
