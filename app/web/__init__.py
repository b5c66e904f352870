"""The pages' static files: no build step, nothing from elsewhere."""

from pathlib import Path

FOLDER = Path(__file__).parent
