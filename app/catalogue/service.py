"""The models this gateway offers, found by id."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Self

from app.catalogue.errors import BrokenModelError, UnknownModelError
from app.catalogue.model import Model
from app.catalogue.wording import clipped
from app.core import bundled
from app.core.errors import ConfigurationError


class Catalogue:
    def __init__(self, models: Iterable[Model]) -> None:
        by_id = {model.model_id: model for model in models}
        self._models = dict(sorted(by_id.items()))

    @classmethod
    def bundled(cls) -> Self:
        """Read the models that ship with the gateway."""
        return cls.read(bundled.models())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read every `*.json` of `folder`; a broken one raises ConfigurationError naming it."""
        return cls(map(_read, sorted(folder.glob("*.json"))))

    def get(self, model_id: str) -> Model:
        if model := self._models.get(model_id):
            return model
        raise UnknownModelError(model_id, nearest=self._nearest(model_id))

    def list(self) -> Sequence[Model]:
        return tuple(self._models.values())

    def input_fields(self) -> Mapping[str, Collection[str]]:
        """Name the fields of every model's input."""
        return {
            id_: model.input_schema.get("properties", {}) for id_, model in self._models.items()
        }

    def _nearest(self, model_id: str) -> Sequence[str]:
        by_folded = {name.casefold(): name for name in self._models}
        near = get_close_matches(clipped(model_id, most=200).casefold(), by_folded, n=3)
        return [by_folded[name] for name in near]


def _read(path: Path) -> Model:
    try:
        model = Model.parse(json.loads(path.read_text(encoding="utf-8")))
        expected = f"{model.model_id.replace('/', '__')}.json"
        if path.name != expected:
            raise BrokenModelError(f"the file of this model_id is named {expected}")
    except ValueError as exc:
        raise ConfigurationError(f"The model file {path} cannot be used: {exc}.") from exc
    return model
