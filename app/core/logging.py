"""Structured logs: one JSON object a line, constant event names, never a prompt or a secret."""

import logging
import re
import sys
import traceback
from contextlib import suppress
from typing import Literal

import structlog

_QUOTING_LIBRARIES = ("httpx", "httpcore", "aiohttp", "uvicorn.access", "sqlalchemy")

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure_logging(*, format: LogFormat, level: LogLevel) -> None:  # noqa: A002 - the setting's name
    """Write structlog's events and the libraries' own logs to stderr in one format.

    The events bypass the standard library, whose records cost more than everything else.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *_rendering(format)],
        logger_factory=_Stderr,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _shorten_asyncio],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(format),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # At their most verbose these log every URL they fetch, which may be signed, and every
    # parameter of a statement, which may be a prompt.
    for name in _QUOTING_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    # When a client hangs up mid-transaction it warns of the failed statement, with its values.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # It logs at every start how it talks to the database; migrations have an event of our own.
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Stderr:
    """Writes finished lines; one that cannot be written is lost, and fails nobody's request."""

    def __init__(self, name: str) -> None:
        self.name = name

    def info(self, line: str) -> None:
        with suppress(OSError, ValueError):  # a full disk, a closed stream
            sys.stderr.write(f"{line}\n")

    debug = warning = error = critical = info


def _shorten_asyncio(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Cut off what asyncio shows of a failed task or callback: its arguments and its exception."""
    if event["logger"] == "asyncio":
        event["event"] = re.split(r"[(\n]", event["event"], maxsplit=1)[0]
    return event


def _rendering(format: LogFormat) -> list[structlog.typing.Processor]:  # noqa: A002 - as above
    exceptions = structlog.processors.ExceptionRenderer(lambda exc_info: _describe(exc_info[1]))
    if format == "console":
        return [exceptions, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [exceptions, structlog.processors.JSONRenderer()]


def _describe(exc: BaseException | None) -> str:
    """Say what broke and where; only our own messages, as others may quote what a client sent."""
    lines: list[str] = []
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:  # a chain of causes can be circular
        seen.add(id(exc))
        kind = type(exc)
        is_ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
        lines.append(f"{kind.__module__}.{kind.__qualname__}{f': {exc}' if is_ours else ''}")
        lines += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(exc.__traceback__)
        ]
        if isinstance(exc, BaseExceptionGroup):
            lines += [_describe(part) for part in exc.exceptions]
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return "\n".join(lines)
