"""Headers and schemes that dependencies read themselves, declared only for the OpenAPI document.

If the framework knew them it would look each up on every request, which took as long as all else
that it does for a submit.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase

Dependency = TypeVar("Dependency", bound=Callable[..., Any])

_ATTRIBUTE = "__described__"


@dataclass(frozen=True)
class Described:
    """`headers` maps the names of optional headers to their descriptions."""

    headers: Mapping[str, str] = field(default_factory=dict)
    scheme: SecurityBase | None = None

    def __call__(self, dependency: Dependency) -> Dependency:
        """Mark a dependency as one that reads these."""
        setattr(dependency, _ATTRIBUTE, self)
        return dependency


def described(dependant: Dependant) -> Iterator[Described]:
    """Find what a route's dependencies read, nested ones included."""
    found = getattr(dependant.call, _ATTRIBUTE, None)
    if found is not None:
        yield found
    for inner in dependant.dependencies:
        yield from described(inner)
