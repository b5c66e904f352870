"""SECURITY.md names the test of each threat; a test that was moved must not leave it behind."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"^\| (.+?) \| (.+?) \| (`tests/.+?`) \|$", re.MULTILINE)


def test_every_threat_names_tests_that_are_there() -> None:
    threats = TABLE.findall((ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(threats) > 10
    for threat, _, tests in threats:
        for path in re.findall(r"`([^`]+)`", tests):
            assert "def test_" in (ROOT / path).read_text("utf-8"), (threat, path)
