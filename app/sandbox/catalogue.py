"""The models the sandbox pretends to run, with prices it made up."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.core import bundled

_SEED = "bytedance/seedance-1-0/pro/image-to-video"


@dataclass(frozen=True, slots=True)
class Model:
    model_id: str
    display_name: str
    output_kind: str
    input_schema: Mapping[str, Any]

    @property
    def price(self) -> float:
        """Invent US dollars per unit; the same in every run, so that bills can be predicted."""
        if self.model_id == _SEED:
            return 0.10
        spread = zlib.crc32(self.model_id.encode())
        return (4 + spread % 37) / 100 if self.unit == "second" else (1 + spread % 12) / 100

    @property
    def unit(self) -> str:
        return "second" if self.output_kind == "video" else "output"

    @property
    def categories(self) -> list[str]:
        task = next((part for part in reversed(self.model_id.split("/")) if "-to-" in part), None)
        return [self.output_kind, *([task] if task else [])]

    def entry(self, *, with_schema: bool) -> dict[str, Any]:
        entry = {
            "model_id": self.model_id,
            "display_name": self.display_name,
            "description": f"{self.display_name}, as the sandbox pretends to run it.",
            "categories": self.categories,
            "kind": self.output_kind,
            "base_price_usd": self.price,
            "price_unit": self.unit,
            "pricing_note": "Made up by the sandbox: nothing is charged.",
            "model_url": f"https://www.runcomfy.com/models/{self.model_id}",
            "inputs": list(self.input_schema.get("properties", {})),
            "required_inputs": list(self.input_schema.get("required", [])),
        }
        return entry | {"input_schema": self.input_schema} if with_schema else entry


class Catalogue:
    def __init__(self, models: list[Model]) -> None:
        self._models = {model.model_id: model for model in models}

    @classmethod
    def read(cls, folder: Path) -> "Catalogue":
        return cls([_read(path) for path in sorted(folder.glob("*.json"))])

    @classmethod
    @cache
    def bundled(cls) -> "Catalogue":
        """Read the models that ship with the gateway, once per process: none of it changes."""
        return cls.read(bundled.models())

    def find(self, model_id: str) -> Model | None:
        return self._models.get(model_id)

    def categories(self) -> list[str]:
        return sorted(
            {category for model in self._models.values() for category in model.categories}
        )

    def search(self, *, text: str, category: str, kind: str) -> list[Model]:
        """Filter by what is given; an empty filter lets everything through."""
        return [
            model
            for model in self._models.values()
            if text.lower() in f"{model.model_id} {model.display_name}".lower()
            and (not category or category in model.categories)
            and kind in {"", model.output_kind}
        ]


def _read(path: Path) -> Model:
    facts = json.loads(path.read_text("utf-8"))
    return Model(
        model_id=facts["model_id"],
        display_name=facts.get("display_name", facts["model_id"]),
        output_kind=facts.get("output_kind", "video"),
        input_schema=facts["input_schema"],
    )
