"""`gateway demo`: a gateway and a sandbox that are gone afterwards."""

from app.demo.standing import keep
from app.demo.video import run

__all__ = ["keep", "run"]
