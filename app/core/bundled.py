"""Where the files that ship beside the code are: in a checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent


def migrations() -> Path:
    return _first(_PACKAGE / "_bundled" / "migrations", _CHECKOUT / "migrations")


def models() -> Path:
    return _first(_PACKAGE / "_bundled" / "models", _CHECKOUT / "openapi" / "models")


def document() -> Path:
    return _first(_PACKAGE / "_bundled" / "openapi.json", _CHECKOUT / "openapi" / "openapi.json")


def _first(*candidates: Path) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise FileNotFoundError(f"none of {', '.join(map(str, candidates))} is there")
