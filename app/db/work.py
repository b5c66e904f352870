"""Work on a database: a function of one connection, whose statements it awaits."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

Done = TypeVar("Done")
Work: TypeAlias = Callable[[AsyncConnection], Awaitable[Done]]
