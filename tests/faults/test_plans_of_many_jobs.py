"""How Postgres carries out what is made once where there are many jobs: never by reading them all.

What is planned once is planned without its values, and hardly any are there when it is: a plan that
reads all of a small table stays for a large one.
"""

import re
from collections.abc import Iterator, Sequence

import psycopg
import pytest
from psycopg.sql import SQL, Composable, Identifier
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg

from app.db.prepared import Prepared
from tests.support.statements import all_made_once

DIALECT = PGDialectAsync_psycopg()
FILL = """
INSERT INTO jobs (
  id, user_id, key_id, model, schema_hash, input, metadata, cost_state, priority, event_seq,
  attempts, refusals, lost_polls, state, created_at, submitted_at, upstream_request_id,
  due_at, lease_token, lease_expires_at, finished_at, output
)
SELECT
  'job_' || n, 'user_' || n % 20, 'key_' || n % 30, 'm', 'h', '{}', '{}', 'held', 1, 1,
  1, 0, 0, state, now(), now(), 'r' || n,
  CASE WHEN state != 'completed' THEN now() + interval '1 hour' END,
  CASE WHEN state LIKE 'in_%' THEN 'poller' END,
  CASE WHEN state LIKE 'in_%' THEN now() + interval '1 minute' END,
  CASE WHEN state = 'completed' THEN now() END,
  CASE WHEN state = 'completed' THEN '{}'::json END
FROM (
  SELECT n, CASE WHEN n % 100 = 0 THEN 'pending' WHEN n % 10 = 1 THEN 'in_queue'
  WHEN n % 10 = 2 THEN 'in_progress' ELSE 'completed' END AS state
  FROM generate_series(1, 20000) n
) many
"""


@pytest.fixture
def server(postgres_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER ALL")  # the jobs are nobody's
        connection.execute(SQL(FILL))
        connection.execute("ANALYZE jobs")
        yield connection


def made_for_postgres() -> Iterator[Prepared]:
    for statement in all_made_once():
        try:
            made = Prepared(statement, DIALECT)
        except AttributeError:  # what only SQLite's compiler knows
            continue
        if not re.search(r"json_extract|\binstr\(", made.text):  # functions of SQLite
            yield made


def plan(server: psycopg.Connection, made: Prepared, name: str) -> str:
    """Plan it once for all values."""
    order: list[str] = []

    def numbered(parameter: re.Match[str]) -> str:
        if parameter[1] not in order:
            order.append(parameter[1])
        return f"${order.index(parameter[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, made.text).replace("%%", "%")
    server.execute("SET plan_cache_mode = force_generic_plan")
    server.execute(f"PREPARE {name} AS {text}".encode())
    (types,) = server.execute(
        "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s", [name]
    ).fetchone() or ([],)
    values = SQL(", ").join(value(*each) for each in zip(order, types, strict=True))
    call = SQL("EXPLAIN EXECUTE {} ({})") if order else SQL("EXPLAIN EXECUTE {}")
    rows = server.execute(call.format(Identifier(name), values)).fetchall()
    return "\n".join(line for (line,) in rows)


def value(name: str, type_: str) -> Composable:
    if name == "new":
        return SQL("'[{}]'")
    if type_.endswith("[]"):
        return SQL("'{}'")
    by_type = {"timestamp with time zone": "now()", "boolean": "true", "text": "'x'"}
    return SQL(by_type.get(type_, "'x'" if "char" in type_ else "1"))


def of_jobs(plans: Sequence[str]) -> Sequence[str]:
    return [each for each in plans if re.search(r"\bjobs\b", each)]


def test_no_statement_reads_all_jobs(server: psycopg.Connection) -> None:
    plans = of_jobs([plan(server, each, f"s{n}") for n, each in enumerate(made_for_postgres())])
    assert len(plans) > 10
    for each in plans:
        assert "Seq Scan on jobs" not in each, each
