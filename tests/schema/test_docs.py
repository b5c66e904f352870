"""What README, docs/ and SECURITY.md tell to run, set and call is there."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.settings import Settings, load_settings
from tests.support.commands import check_mention, is_command, parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = {
    str(field.validation_alias or f"GATEWAY_{name.upper()}")
    for name, field in Settings.model_fields.items()
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What ends one command and begins the next, and what stands for something.
_SHELL = {"&&", "||", "|", ";", ">", "<"}


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in _FENCE.findall(page.read_text()) if name == language]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command after a prompt that says gateway, without what it prints."""
    for block in blocks(page, "console"):
        joined = re.sub(r"\\\n\s*", " ", block)
        for line in re.findall(r"^[$#] (.*\bgateway\b.*)$", joined, re.MULTILINE):
            # Line by line: an apostrophe in a comment is no quote.
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if word in _SHELL:
                    yield words
                    words = []
                else:
                    words.append(word)
            yield words


def gateway_words(words: list[str]) -> list[str] | None:
    """Return what follows `gateway` in a command, by whatever path or container it is run."""
    for place, word in enumerate(words):
        runs = word == "gateway" or word.endswith("/bin/gateway")
        if runs and place + 1 < len(words) and is_command(words[place + 1]):
            return words[place + 1 :]
    # A wrong one must not pass for none; `exec gateway` names a container, `-u gateway` a user.
    assert words[:1] != ["gateway"], words
    return None


def test_every_command_in_a_block_is_one_that_parses() -> None:
    seen = 0
    for page in PAGES:
        for words in command_lines(page):
            if (ours := gateway_words(words)) is not None:
                seen += 1
                parse(ours)
    assert seen >= 10


def test_every_command_in_the_text_is_there_with_its_options() -> None:
    manifests = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in {".yml", ".yaml"}]
    seen = 0
    for page in [*PAGES, *manifests]:
        for mention in re.findall(
            r"(?<!`)`gateway ([^`]+)`(?!`)", _FENCE.sub("", page.read_text())
        ):
            words = mention.replace("\n", " ").split()
            if "|" in mention:  # several at once: plans|users|keys
                continue
            seen += 1
            check_mention(words[: words.index("...")] if "..." in words else words)
    assert seen > 20


def test_every_setting_that_is_named_is_there() -> None:
    for page in PAGES:
        named = set(re.findall(r"\bGATEWAY_[A-Z_]*[A-Z]\b", page.read_text()))
        assert named <= SETTINGS, page.name


def test_every_call_that_is_named_is_there() -> None:
    paths = json.loads((ROOT / "openapi" / "openapi.json").read_text())["paths"]
    patterns = [re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)) for path in paths]
    for page in PAGES[1:]:
        for method, path in re.findall(
            r"`(GET|PUT|POST|PATCH|DELETE) (/[^\s`?]*)", page.read_text()
        ):
            assert any(each.fullmatch(path) for each in patterns), (page.name, method, path)


def test_every_link_and_file_that_is_named_is_there() -> None:
    for page in PAGES:
        words = page.read_text()
        for target in re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", words):
            assert (page.parent / target).exists(), (page.name, target)
        for path in re.findall(r"\b(?:deploy|docs|requirements|bench)/[\w./-]+\w", words):
            assert (ROOT / path).exists(), (page.name, path)


def test_the_first_commands_make_an_env_file_that_only_lacks_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = [
        line
        for line in "".join(blocks(ROOT / "README.md", "console")).splitlines()
        if line.endswith("# with fresh secrets")
    ]
    made = made.removeprefix("$ ").replace("deploy/", f"{ROOT}/deploy/")
    # What the shell makes next is no secret: a later `git pull` writes files that others must read.
    shell = f"umask 022\n{made}\numask"
    ran = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ran.stdout == "0022\n"
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    settings = load_settings()
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.api_token == ()
    assert len(settings.admin_token) == 1
    assert len(settings.secret_key[0].get_secret_value()) == 64
    written = (tmp_path / ".env").read_text()
    assert re.search(r"^POSTGRES_PASSWORD=[0-9a-f]{64}$", written, re.MULTILINE)
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?((?:GATEWAY|RUNCOMFY)_\w+)=", example, re.MULTILINE))
    assert named <= SETTINGS


def test_the_statements_for_a_restored_copy_run(database_url: str) -> None:
    """The second one twice: a copy may be paused already."""
    statements = blocks(ROOT / "docs" / "backing-up.md", "sql")
    assert len(statements) == 2
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in [statements[0]] * (engine.name != "sqlite") + [statements[1]] * 2:
            connection.execute(text(statement))
        rows = connection.execute(text("SELECT name, is_on FROM switches")).all()
    engine.dispose()
    assert [(name, bool(is_on)) for name, is_on in rows] == [("dispatch_paused", True)]


def test_what_to_stop_for_is_told_while_the_old_release_is_checked_out(tmp_path: Path) -> None:
    """Compose's one command pulls the new one and replaces everything at once."""
    (told,) = [
        line.removeprefix("$ ").replace("OLD", "old").replace("NEW", "new")
        for block in blocks(ROOT / "docs" / "upgrading.md", "console")
        for line in block.splitlines()
        if "expands = True" in line
    ]
    git = "git -c user.name=a -c user.email=a@example.com -c commit.gpgsign=false"
    shell = f"""
        set -e
        git init --quiet . && {git} commit --quiet --allow-empty --message=old && git tag old
        mkdir -p migrations/versions
        echo 'expands = True' > migrations/versions/marked.py
        echo 'expands = False' > migrations/versions/unmarked.py
        git add . && {git} commit --quiet --message=new && git tag new
        git checkout --quiet old
        {told}
    """
    ran = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ran.stderr == ""
    assert "migrations/versions/unmarked.py" in ran.stdout
    assert "/marked.py" not in ran.stdout
