"""The type of work on a database: a function of one connection that awaits its statements."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

Done = TypeVar("Done")
Work: TypeAlias = Callable[[AsyncConnection], Awaitable[Done]]
