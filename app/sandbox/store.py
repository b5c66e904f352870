"""The sandbox's memory on disk: what it received, and what it accepted."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from app.sandbox.records import Receipt, Record

CountedCall = Literal["status", "result", "cancel"]

_TABLES = """
CREATE TABLE IF NOT EXISTS receipts (
    seq INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    model_id TEXT NOT NULL,
    input TEXT NOT NULL,
    headers TEXT NOT NULL,
    request_id TEXT UNIQUE
);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT PRIMARY KEY,
    model_id TEXT NOT NULL,
    input TEXT NOT NULL,
    created_at TEXT NOT NULL,
    queue REAL NOT NULL,
    progress REAL NOT NULL,
    cancelled_at TEXT,
    status_calls INTEGER NOT NULL DEFAULT 0,
    result_calls INTEGER NOT NULL DEFAULT 0,
    cancel_calls INTEGER NOT NULL DEFAULT 0
);
"""
_COUNT = "UPDATE requests SET {0}_calls = {0}_calls + 1 WHERE request_id = ?"


class Store:
    """Every call is one short transaction, fast enough for the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self) -> None:
        if "_db" in self.__dict__:
            self._db.close()
            del self._db

    def receive(self, receipt: Receipt, *, accepted: Record | None = None) -> None:
        """Store a submit; once this returns, an accepted one outlives this process."""
        with self._db as tx:
            tx.execute(
                "INSERT INTO receipts (received_at, model_id, input, headers, request_id)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    receipt.received_at.isoformat(),
                    receipt.model_id,
                    json.dumps(receipt.input),
                    json.dumps(receipt.headers),
                    accepted.request_id if accepted else None,
                ),
            )
            if accepted:
                tx.execute(
                    "INSERT INTO requests"
                    " (request_id, model_id, input, created_at, queue, progress)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        accepted.request_id,
                        accepted.model_id,
                        json.dumps(accepted.input),
                        accepted.created_at.isoformat(),
                        accepted.queue,
                        accepted.progress,
                    ),
                )

    def times_received(self, model_id: str, given: Mapping[str, Any]) -> int:
        query = "SELECT count(*) FROM receipts WHERE model_id = ? AND input = ?"
        (times,) = self._db.execute(query, (model_id, json.dumps(given))).fetchone()
        return int(times)

    def accepted(self) -> int:
        (number,) = self._db.execute("SELECT count(*) FROM requests").fetchone()
        return int(number)

    def count(self, call: CountedCall, request_id: str) -> Record | None:
        """Count one more such call; return its record, or None if it was never accepted."""
        with self._db as tx:
            # No RETURNING: it copies the input, which can be a whole file, twice more.
            tx.execute(_COUNT.format(call), (request_id,))
        return self.find(request_id)

    def find(self, request_id: str) -> Record | None:
        query = "SELECT * FROM requests WHERE request_id = ?"
        row = self._db.execute(query, (request_id,)).fetchone()
        return _record(row) if row else None

    def cancel(self, request_id: str, *, at: datetime) -> None:
        with self._db as tx:
            tx.execute(
                "UPDATE requests SET cancelled_at = ?"
                " WHERE request_id = ? AND cancelled_at IS NULL",
                (at.isoformat(), request_id),
            )

    def receipts(self) -> list[Receipt]:
        rows = self._db.execute("SELECT * FROM receipts ORDER BY seq")
        return [_receipt(row) for row in rows]

    def records(self) -> list[Record]:
        rows = self._db.execute("SELECT * FROM requests ORDER BY rowid")
        return [_record(row) for row in rows]

    @cached_property
    def _db(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # An app may be made on one thread and served on another, never on two at a time.
        db = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLES)
        return db


def _receipt(row: sqlite3.Row) -> Receipt:
    return Receipt(
        received_at=datetime.fromisoformat(row["received_at"]),
        model_id=row["model_id"],
        input=json.loads(row["input"]),
        headers=json.loads(row["headers"]),
        request_id=row["request_id"],
    )


def _record(row: sqlite3.Row) -> Record:
    cancelled_at = row["cancelled_at"]
    return Record(
        request_id=row["request_id"],
        model_id=row["model_id"],
        input=json.loads(row["input"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        queue=row["queue"],
        progress=row["progress"],
        cancelled_at=datetime.fromisoformat(cancelled_at) if cancelled_at else None,
        status_calls=row["status_calls"],
        result_calls=row["result_calls"],
        cancel_calls=row["cancel_calls"],
    )
