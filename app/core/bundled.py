"""Where the files that ship beside the code are: in a checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent


def migrations() -> Path:
    return _first(_PACKAGE / "_bundled" / "migrations", _CHECKOUT / "migrations")


def models() -> Path:
    return _first(_PACKAGE / "_bundled" / "models", _CHECKOUT / "openapi" / "models")


def _first(*candidates: Path) -> Path:
    for path in candidates:
        if path.is_dir():
            return path
    raise FileNotFoundError(f"none of {', '.join(map(str, candidates))} is a folder")
