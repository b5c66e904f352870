"""The last good catalogue of an upstream: stored, compared, and followed by all replicas."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from anyio import to_thread
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.catalogue.changes import breaking_changes
from app.catalogue.entries import read_entry
from app.catalogue.errors import BrokenModelError
from app.catalogue.model import Model
from app.catalogue.repository import CatalogueRepository, listing_from_row, model_from_row
from app.catalogue.service import Catalogue
from app.catalogue.wording import clipped
from app.core.clock import Clock
from app.db.engine import Database

logger = structlog.get_logger(__name__)

# A model that made jobs within this time is in use: breaking it breaks somebody's program.
IN_USE = timedelta(days=30)
_GONE = "RunComfy no longer lists the model"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a sync changed, by model; `breaks` has only models in use."""

    models: int
    added: Sequence[str]
    changed: Sequence[str]
    withdrawn: Sequence[str]
    skipped: int
    breaks: Mapping[str, Sequence[str]]

    @property
    def is_news(self) -> bool:
        return bool(self.added or self.changed or self.withdrawn)


class CatalogueStore:
    """`catalogue` is what this process serves: the stored models, once there are any."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        catalogue: Catalogue,
        source: str,
        refresh: timedelta,
    ) -> None:
        self._database = database
        self._clock = clock
        self._catalogue = catalogue
        self._shipped = {model.model_id: model for model in catalogue.known()}
        self._source = source
        self._refresh = refresh
        self._version = 0

    async def load(self) -> None:
        """Serve what is stored, if that changed; a small query tells."""

        async def look(connection: AsyncConnection) -> tuple[int, Sequence[Row[Any]]]:
            repository = CatalogueRepository(connection, self._source)
            version = await repository.version()
            return version, await repository.find_all() if version != self._version else ()

        version, rows = await self._database.read(look)
        if version == self._version:
            return
        known = {model.model_id: model for model in self._catalogue.known()}
        models = await to_thread.run_sync(_compile, rows, known)
        self._catalogue.replace(
            models, withdrawn={row.model_id for row in rows if row.withdrawn_at is not None}
        )
        self._version = version

    async def take_turn(self, *, retry: timedelta) -> bool:
        """Return whether to read upstream now; nobody else will before `retry` has passed."""
        at = self._clock.now()
        return await self._database.transact(
            lambda tx: CatalogueRepository(tx, self._source).take_turn(at=at, until=at + retry)
        )

    async def apply(self, entries: Sequence[Any]) -> SyncReport:
        """Store what upstream lists now, and serve it; a broken entry changes nothing.

        A breaking change of a model in use is an error in the log and an entry in the audit log.
        """
        models, broken = await to_thread.run_sync(_read, entries)
        skipped = len(entries) - len(models)
        report = await self._database.transact(
            lambda tx: self._store(tx, models, broken, skipped=skipped)
        )
        for model_id, breaks in report.breaks.items():
            logger.error("catalogue.breaking_change", model=model_id, breaks=breaks)
        logger.info(
            "catalogue.synced",
            models=report.models,
            added=len(report.added),
            changed=len(report.changed),
            withdrawn=len(report.withdrawn),
            skipped=report.skipped,
        )
        await self.load()
        return report

    async def _store(
        self,
        tx: AsyncConnection,
        models: Mapping[str, Model],
        broken: Collection[str | None],
        *,
        skipped: int,
    ) -> SyncReport:
        at, repository = self._clock.now(), CatalogueRepository(tx, self._source)
        is_first = not await repository.lock(at=at, due_at=at + self._refresh)
        stored = {row.model_id: row for row in await repository.find_all()}
        offered = {id_ for id_, row in stored.items() if row.withdrawn_at is None}
        if None in broken:  # it may be the entry of any model, or of all
            broken = {*stored, *self._shipped}
        added = [id_ for id_ in models if id_ not in offered]
        changed = [id_ for id_ in models if id_ in offered and _differs(stored[id_], models[id_])]
        withdrawn = sorted(offered - set(models) - set(broken))
        await repository.save([models[id_] for id_ in (*added, *changed)], at=at)
        await repository.withdraw(withdrawn, at=at)
        before = self._shipped if is_first else {id_: stored[id_] for id_ in offered}
        breaks = _breaks(before, models, broken)
        used = await repository.in_use(breaks, since=at - IN_USE) if breaks else set()
        report = SyncReport(
            models=len(models),
            added=added,
            changed=changed,
            withdrawn=withdrawn,
            skipped=skipped,
            breaks={id_: breaks[id_] for id_ in sorted(used)},
        )
        if report.is_news:
            await repository.raise_version()
        await _record(tx, report, before, models, at=at)
        return report


async def _record(
    tx: AsyncConnection,
    report: SyncReport,
    before: Mapping[str, Any],
    models: Mapping[str, Model],
    *,
    at: datetime,
) -> None:
    """Record what a sync changed; `before` has rows or models."""
    if report.is_news:
        after = {
            "models": report.models,
            "added": list(report.added),
            "changed": [_changes(before[id_], models[id_]) for id_ in report.changed],
            "withdrawn": list(report.withdrawn),
        }
        await audit.append(
            tx, at=at, actor="system", action="catalogue.synced", target="models", after=after
        )
    for model_id, breaks in report.breaks.items():
        model = models.get(model_id)
        await audit.append(
            tx,
            at=at,
            actor="system",
            action="catalogue.breaking_change",
            target=model_id,
            before={"schema_hash": before[model_id].schema_hash},
            after={
                "schema_hash": None if model is None else model.schema_hash,
                "breaks": list(breaks),
            },
        )


def _read(entries: Sequence[Any]) -> tuple[Mapping[str, Model], set[str | None]]:
    """Read what can be read; return the ids of the rest, None for an entry without one."""
    models: dict[str, Model] = {}
    broken: set[str | None] = set()
    for entry in entries:
        try:
            model = read_entry(entry)
        except BrokenModelError as exc:
            given = entry.get("model_id") if isinstance(entry, dict) else None
            name = given if isinstance(given, str) else None
            broken.add(name)
            _warn_of_skipped(name or "?", exc)
        else:
            models[model.model_id] = model
    return dict(sorted(models.items())), broken


def _compile(rows: Iterable[Row[Any]], known: Mapping[str, Model]) -> Sequence[Model]:
    models = []
    for row in rows:
        earlier = known.get(row.model_id)
        if earlier is not None and not _differs(row, earlier):
            models.append(earlier)
            continue
        try:
            models.append(model_from_row(row))
        except BrokenModelError as exc:
            _warn_of_skipped(row.model_id, exc)
    return models


def _warn_of_skipped(model_id: str, exc: BrokenModelError) -> None:
    logger.warning(
        "catalogue.model_skipped",
        model=clipped(model_id, most=200),
        reason=clipped(str(exc), most=200),
    )


def _differs(row: Row[Any], model: Model) -> bool:
    return (row.schema_hash, row.display_name, row.output_kind, listing_from_row(row)) != (
        model.schema_hash,
        model.display_name,
        model.output_kind,
        model.listing,
    )


def _breaks(
    before: Mapping[str, Any], models: Mapping[str, Model], broken: Collection[str | None]
) -> dict[str, list[str]]:
    """Name what each known model no longer takes; `before` has rows or models."""
    found = {}
    for model_id, old in before.items():
        if model_id in models:
            found[model_id] = breaking_changes(old.input_schema, models[model_id].input_schema)
        elif model_id not in broken:
            found[model_id] = [_GONE]
    return {model_id: breaks for model_id, breaks in found.items() if breaks}


def _changes(row: Row[Any], model: Model) -> dict[str, Any]:
    """Say what changed of a model: its schema or its price."""
    price = model.listing.base_price_usd
    return {
        "model": model.model_id,
        "schema": row.schema_hash != model.schema_hash,
        "base_price_usd": [row.base_price_usd, None if price is None else format(price, "f")],
        "price_unit": [row.price_unit, model.listing.price_unit],
    }
