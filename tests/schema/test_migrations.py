"""One history of the schema, there and back, on both databases."""

import os
import subprocess
import sys

import pytest
from alembic import command

from app.core.errors import ConfigurationError
from app.db.migrate import configuration, require_current, synchronous, upgrade


def test_the_schema_goes_up_matches_the_models_and_goes_down(empty_database_url: str) -> None:
    config = configuration(synchronous(empty_database_url))
    upgrade(empty_database_url)
    command.check(config)
    command.downgrade(config, "base")
    upgrade(empty_database_url)
    upgrade(empty_database_url)
    require_current(empty_database_url)


def test_several_may_migrate_at_once(empty_database_url: str) -> None:
    command_line = [sys.executable, "-c", "from app.cli import main; main()", "db", "upgrade"]
    environment = os.environ | {"GATEWAY_DATABASE_URL": empty_database_url}
    rivals = [subprocess.Popen(command_line, env=environment) for _ in range(3)]
    assert [rival.wait(timeout=60) for rival in rivals] == [0, 0, 0]
    require_current(empty_database_url)


def test_an_old_schema_stops_the_start_with_the_command(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    command.downgrade(configuration(synchronous(empty_database_url)), "base")
    with pytest.raises(ConfigurationError, match="run `gateway db upgrade` first"):
        require_current(empty_database_url)
