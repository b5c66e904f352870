"""What a log says of an exception."""

import logging

import pytest

from app.core.logging import configure_logging


class Tail(Exception):  # noqa: N818 - a name for a test
    pass


def test_an_exception_that_is_its_own_cause_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="json", level="info")
    try:
        tail = Tail()
        raise tail from tail
    except Tail:
        logging.getLogger("test").exception("it.broke")
    finally:
        configure_logging(format="console", level="warning")
    assert capsys.readouterr().err.count("Tail") == 1
