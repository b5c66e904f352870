"""One history of the schema, there and back, on both databases."""

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url, text

from app.core.errors import ConfigurationError
from app.db.engine import parse_url
from app.db.migrate import configuration, upgrade
from app.db.schema import newest_revision, read, require_current
from tests.support.databases import Databases

CHECKOUT = Path(__file__).parents[2]


def test_the_schema_goes_up_matches_the_models_and_goes_down(empty_database_url: str) -> None:
    config = configuration(parse_url(empty_database_url))
    upgrade(empty_database_url)
    command.check(config)
    command.downgrade(config, "base")
    upgrade(empty_database_url)
    upgrade(empty_database_url)
    require_current(empty_database_url)


def test_the_newest_revision_is_alembics_head() -> None:
    scripts = ScriptDirectory.from_config(configuration(make_url("sqlite://")))
    assert newest_revision() == scripts.get_current_head()


def test_make_writes_a_migration_that_follows_the_newest(tmp_path: Path) -> None:
    """In a copy of the checkout, whose models ask for nothing."""
    (tmp_path / "app").symlink_to(CHECKOUT / "app")
    shutil.copytree(CHECKOUT / "migrations", tmp_path / "migrations")
    makefile = (CHECKOUT / "Makefile").read_text()
    code = makefile.partition("define NEW_MIGRATION\n")[2].partition("endef\n")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, "add a mood"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "migrations" / "versions").glob("*_add_a_mood.py")
    assert f'down_revision = "{newest_revision()}"' in made.read_text().replace("'", '"')


def test_several_may_migrate_at_once(empty_database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RIVALS, "db", "upgrade"],
        env=os.environ | {"GATEWAY_DATABASE_URL": empty_database_url},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "[0, 0, 0]\n"
    require_current(empty_database_url)


_RIVALS = """
import multiprocessing

import app.db.migrate  # here once, so that all of them begin together
from app.cli import main

rivals = [multiprocessing.get_context("fork").Process(target=main) for _ in range(3)]
for rival in rivals:
    rival.start()
for rival in rivals:
    rival.join()
print([rival.exitcode for rival in rivals])
"""


def test_a_new_file_is_waited_for_while_a_rival_makes_it(tmp_path: Path) -> None:
    """Whoever comes second to a change of the journal is refused at once, whatever its timeout."""
    file = tmp_path / "gateway.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        rival.execute("CREATE TABLE made (at)")
        ending = Timer(0.5, rival.commit)
        ending.start()
        assert read(f"sqlite:///{file}").revision is None
        ending.join()


def test_a_long_migration_is_waited_for_by_a_rival(request: pytest.FixtureRequest) -> None:
    """Only a table's lock is given up after 10 s, since a wait for that holds up everybody."""
    databases: Databases = request.getfixturevalue("_postgres_databases")
    turn = text("SELECT pg_advisory_xact_lock(:turn), pg_sleep(11)").bindparams(turn=0x52434759)
    with databases.empty() as url, ThreadPoolExecutor() as threads:
        engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
        with engine.connect() as rival:
            long = threads.submit(rival.execute, turn)
            upgrade(url)
            long.result()
        engine.dispose()
        require_current(url)


def test_a_long_migration_of_sqlite_is_waited_for_too(tmp_path: Path) -> None:
    """By itself its driver gives up after 5 s."""
    file, url = tmp_path / "gateway.db", f"sqlite:///{tmp_path}/gateway.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as rival:
        rival.execute("PRAGMA journal_mode=WAL")
        rival.execute("BEGIN IMMEDIATE")
        ending = Timer(6, rival.rollback)
        ending.start()
        upgrade(url)
        ending.join()
    require_current(url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_keep_all_text_is_refused(
    request: pytest.FixtureRequest, encoding: str
) -> None:
    """As a server makes them whose locale is C."""
    databases: Databases = request.getfixturevalue("_postgres_databases")
    with databases.empty() as url:
        name = make_url(url).database
        engine = create_engine(
            parse_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as server:
            server.execute(text(f"DROP DATABASE {name}"))
            as_c = "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            server.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' {as_c}"))
        engine.dispose()
        with pytest.raises(ConfigurationError, match=f"keeps text as {encoding}"):
            upgrade(url)


@pytest.mark.parametrize("expands", [True, False])
def test_a_release_runs_on_what_the_next_one_has_expanded(
    empty_database_url: str, tmp_path: Path, *, expands: bool
) -> None:
    """The next release is this one with one migration more."""
    upgrade(empty_database_url)
    this = configuration(parse_url(empty_database_url))
    folder = this.get_main_option("script_location")
    assert folder
    shutil.copytree(folder, tmp_path / "next", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "next" / "versions" / "next.py").write_text(
        _NEXT.format(head=newest_revision(), expands=expands)
    )
    later = configuration(parse_url(empty_database_url))
    later.set_main_option("script_location", str(tmp_path / "next"))
    command.upgrade(later, "head")
    if expands:
        require_current(empty_database_url)
        upgrade(empty_database_url)
    else:
        for meet in (require_current, upgrade):
            with pytest.raises(ConfigurationError, match="start the later release"):
                meet(empty_database_url)
    command.downgrade(later, "-1")
    require_current(empty_database_url)


_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"
branch_labels = depends_on = None
expands = {expands}


def upgrade():
    op.add_column("jobs", sa.Column("mood", sa.Text(), nullable=True))


def downgrade():
    op.drop_column("jobs", "mood")
"""


def test_an_old_schema_stops_the_start_with_the_command(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    command.downgrade(configuration(parse_url(empty_database_url)), "base")
    with pytest.raises(ConfigurationError, match="run `gateway db upgrade` first"):
        require_current(empty_database_url)
