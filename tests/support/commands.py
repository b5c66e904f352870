"""The `gateway` command in this process: run, or asked whether it understands a command line."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import typer

from app.cli import app, main
from app.settings import Settings


@dataclass(frozen=True)
class Done:
    code: object
    stdout: str
    stderr: str


Command = Callable[..., Done]


def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Forget all settings; return what runs a command, with `settings` for that run alone."""
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.validation_alias or f"GATEWAY_{name.upper()}"), raising=False)

    def run(*arguments: str, settings: Mapping[str, str] | None = None) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["gateway", *arguments])
            for name, value in (settings or {}).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
            gc.enable()  # a command that only prints leaves it off
        printed = capsys.readouterr()
        return Done(ended.value.code, printed.out, printed.err)

    return run


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of a whole command line without `gateway`; raise if it is invalid."""
    command, rest, context = _found(words)
    with command.make_context(context.info_name, rest, parent=context.parent) as parsed:
        options: dict[str, Any] = parsed.params
        return options


def is_command(word: str) -> bool:
    top: Any = typer.main.get_command(app)
    return word in top.commands


def check_mention(words: Sequence[str]) -> None:
    """Raise unless these are a command, or the beginning of one, and options that it has."""
    command, rest, _ = _found(words)
    known = {option for each in command.params for option in each.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
    if unknown:
        raise ValueError(f"{command.name} has no {unknown}")


def _found(words: Sequence[str]) -> tuple[Any, list[str], Any]:
    command: Any = typer.main.get_command(app)
    rest, context = list(words), command.context_class(command, info_name="gateway")
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("--"):
            break
        name = rest[0]
        if name not in command.commands:
            raise ValueError(f"gateway {' '.join(words)}: there is no {name}")
        command, rest = command.commands[name], rest[1:]
        context = command.context_class(command, info_name=name, parent=context)
    return command, rest, context
