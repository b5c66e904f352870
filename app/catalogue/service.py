"""The models this gateway offers, found by id."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any, Self

from app.catalogue.dialect import fields_of
from app.catalogue.errors import UnknownModelError
from app.catalogue.model import Model
from app.catalogue.wording import clipped
from app.core import bundled


class Catalogue:
    """Its models may be replaced while it serves; each answer comes from one version."""

    def __init__(self, models: Iterable[Model], *, allowed: Sequence[str] = ()) -> None:
        """`allowed` are ids, with `*` for anything; an empty list allows every model."""
        self._allowed = tuple(allowed)
        self.replace(models)

    @classmethod
    def bundled(cls, *, allowed: Sequence[str] = ()) -> Self:
        """Read the models that ship with the gateway."""
        return cls(_bundled(), allowed=allowed)

    def replace(self, models: Iterable[Model], *, withdrawn: Collection[str] = ()) -> None:
        """Replace all models by these; the withdrawn ones are known, but not offered."""
        known = {model.model_id: model for model in models}
        self._known = dict(sorted(known.items()))
        self._withdrawn = frozenset(withdrawn)
        self._offered = {
            id_: model
            for id_, model in self._known.items()
            if id_ not in self._withdrawn and self._is_allowed(id_)
        }
        self._ids = tuple(self._offered)

    def get(self, model_id: str) -> Model:
        if model := self._offered.get(model_id):
            return model
        raise UnknownModelError(
            model_id,
            nearest=_nearest(clipped(model_id, most=200), self._ids),
            withdrawn=model_id in self._withdrawn and self._is_allowed(model_id),
        )

    def list(self) -> Sequence[Model]:
        return tuple(self._offered.values())

    def known(self) -> Sequence[Model]:
        """Return every model that exists or existed, offered or not."""
        return tuple(self._known.values())

    def input_fields(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Return the schemas of the input fields of every known model, by name."""
        return {id_: fields_of(model.input_schema) for id_, model in self._known.items()}

    def _is_allowed(self, model_id: str) -> bool:
        return not self._allowed or any(fnmatchcase(model_id, each) for each in self._allowed)


@lru_cache(maxsize=256)
def _nearest(model_id: str, known: tuple[str, ...]) -> Sequence[str]:
    """Cached for callers that repeat a mistake: among hundreds of models it takes tens of ms."""
    by_folded = {name.casefold(): name for name in known}
    near = get_close_matches(model_id.casefold(), by_folded, n=3)
    return [by_folded[name] for name in near]


@cache
def _bundled() -> Sequence[Model]:
    """Compile them once per process; a demo, and every test, opens several gateways in one."""
    files = sorted(bundled.models().glob("*.json"))
    return tuple(Model.parse(json.loads(path.read_text(encoding="utf-8"))) for path in files)
