"""One input against one model: defaults filled in, every broken rule named, files listed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from jsonschema_rs import ValidationError, ValidationErrorKind

from app.catalogue.amount import output_seconds, outputs
from app.catalogue.dialect import compiled, defaults_of, fields_of
from app.catalogue.explain import broken_rule, not_storable, unknown_field
from app.catalogue.media import MediaCheck, media_field
from app.catalogue.portability import portability_flaw, texts_in
from app.catalogue.wording import pointer
from app.core.errors import MAX_ERRORS, FieldError
from app.net.reach import Reach
from app.net.urls import MAX_URL_CHARACTERS, is_data_uri

MAX_CHARACTERS = 2**16

_WHOLE = ""  # the name under which errors of the input as a whole are filed


@dataclass(frozen=True)
class Checked:
    """What was found of an input.

    `input` has the defaults of settings filled in; it lacks only values that cannot be stored or
    sent, and unknown fields beyond the hundredth. `errors` follow the schema's order, unknown
    fields last, and stop at a hundred. `media` lists the files whose addresses are valid and whose
    bytes have yet to be looked at.
    """

    input: dict[str, Any]
    errors: list[FieldError]
    media: list[MediaCheck]
    output_seconds: Decimal | None
    outputs: int | None


class InputChecker:
    """The compiled rules of one model."""

    def __init__(self, schema: Mapping[str, Any], *, output_kind: str) -> None:
        self._output_kind = output_kind
        self._validator = compiled(schema)
        self._fields = fields_of(schema)
        # RunComfy does not say what it does with further fields; an unknown one may cost money.
        self._is_closed = bool(self._fields) and not schema.get("additionalProperties", False)
        self._defaults = defaults_of(schema, self._validator)
        media = (media_field(name, field) for name, field in self._fields.items())
        self._media = {field.name: field for field in media if field}

    @property
    def media_fields(self) -> tuple[str, ...]:
        return tuple(self._media)

    def check(self, given: Mapping[str, Any], *, reach: Reach) -> Checked:
        filled = {**given, **{n: v for n, v in self._defaults.items() if n not in given}}
        if not self._is_sound(filled):
            return self._explained(filled, reach=reach)
        files = list(self._files(filled, reach=reach))
        errors = [found for _, found in files if isinstance(found, FieldError)]
        return Checked(
            input=filled,
            errors=errors[:MAX_ERRORS],
            media=[found for _, found in files if isinstance(found, MediaCheck)],
            output_seconds=output_seconds(filled, output_kind=self._output_kind),
            outputs=outputs(filled),
        )

    def _is_sound(self, filled: dict[str, Any]) -> bool:
        """Return whether only files can still be wrong; this is cheaper than listing errors."""
        return (
            all(map(self._knows, filled))
            and portability_flaw(filled) is None
            and not self._too_long(filled)
            and self._validator.is_valid(filled)
        )

    def _explained(self, filled: dict[str, Any], *, reach: Reach) -> Checked:
        unknown = list(islice((n for n in filled if not self._knows(n)), MAX_ERRORS))
        known = [name for name in filled if self._knows(name)]
        named = {name: filled[name] for name in (*known, *unknown)}
        flaws = {**_flaws(named), **self._too_long(named)}
        sound = {name: filled[name] for name in known if name not in flaws}

        findings = _Findings(self._fields)
        for name in known:
            if name in flaws:
                findings.add(name, not_storable(name, flaws[name]))
        for name, error in self._broken_rules(sound, given=filled):
            if not findings.is_full(name):  # to explain a rule takes longer than to find it broken
                findings.add(name, broken_rule(error, self._fields))
        well_typed = {n: v for n, v in sound.items() if not findings.has_type_error(n)}
        files = list(self._files(well_typed, reach=reach))
        for name, found in files:
            if isinstance(found, FieldError):
                findings.add(name, found)
        errors = chain(findings, (unknown_field(name, self._fields) for name in unknown))
        return Checked(
            input={n: v for n, v in filled.items() if n in named and n not in flaws},
            errors=list(islice(errors, MAX_ERRORS)),
            media=[found for _, found in files if isinstance(found, MediaCheck)],
            output_seconds=output_seconds(sound, output_kind=self._output_kind),
            outputs=outputs(sound),
        )

    def _knows(self, name: str) -> bool:
        return name in self._fields or not self._is_closed

    def _too_long(self, given: Mapping[str, Any]) -> Mapping[str, str]:
        """Name the fields whose texts add up to too much."""
        return {
            name: f"must have {MAX_CHARACTERS} characters at most"
            for name, value in given.items()
            if sum(map(len, self._counted(name, value))) > MAX_CHARACTERS
        }

    def _counted(self, name: str, value: Any) -> Iterable[str]:
        """For media fields, count only URLs, and only those not refused for their own length."""
        texts = texts_in(value)
        if name not in self._media:
            return texts
        addresses = (text for text in texts if not is_data_uri(text))
        return (address for address in addresses if len(address) <= MAX_URL_CHARACTERS)

    def _broken_rules(
        self, sound: Mapping[str, Any], *, given: Mapping[str, Any]
    ) -> Iterator[tuple[str, ValidationError]]:
        for error in self._validator.iter_errors(sound):
            name = str(error.instance_path[0]) if error.instance_path else _WHOLE
            if name == _WHOLE and isinstance(error.kind, ValidationErrorKind.Required):
                name = error.kind.property
                if name in given:
                    continue  # it is present, but was left out for a flaw found before
            yield name, error

    def _files(
        self, given: Mapping[str, Any], *, reach: Reach
    ) -> Iterator[tuple[str, FieldError | MediaCheck]]:
        for name, field in self._media.items():
            if name in given:
                found = field.check(given[name], reach=reach)
                yield from ((name, each) for each in found)


def _flaws(given: dict[str, Any]) -> Mapping[str, str]:
    """Name the fields that cannot be stored or sent, and why; the whole is checked first."""
    if portability_flaw(given) is None:
        return {}
    flaws = {name: portability_flaw({name: value}) for name, value in given.items()}
    return {name: flaw for name, flaw in flaws.items() if flaw}


class _Findings:
    """Errors in the order of the fields they belong to."""

    def __init__(self, fields: Iterable[str]) -> None:
        self._by_field: dict[str, list[FieldError]] = {name: [] for name in (*fields, _WHOLE)}

    def __iter__(self) -> Iterator[FieldError]:
        return chain.from_iterable(self._by_field.values())

    def add(self, name: str, error: FieldError) -> None:
        """Add an error; for a value of the wrong type, which breaks most other rules, only that."""
        if not self.has_type_error(name, at=error.pointer):
            self._by_field.setdefault(name, []).append(error)

    def is_full(self, name: str) -> bool:
        """Return whether all that may be told is used up by this field alone."""
        return len(self._by_field.get(name, ())) >= MAX_ERRORS

    def has_type_error(self, name: str, *, at: str | None = None) -> bool:
        """Return whether the field itself, or the place `at` in it, has the wrong type."""
        found = self._by_field.get(name)
        if not found:
            return False
        place = pointer(name) if at is None else at
        return any(error.pointer == place and error.code == "type" for error in found)
