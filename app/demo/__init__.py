"""`gateway demo`: a gateway and a sandbox that are gone afterwards."""

from app.demo.kept import keep
from app.demo.video import run

__all__ = ["keep", "run"]
