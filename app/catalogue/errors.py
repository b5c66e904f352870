"""What the catalogue refuses: a model it does not know, and a description it cannot read."""

from collections.abc import Sequence

from app.catalogue.wording import quoted
from app.core.errors import FieldError, ProblemError


class UnknownModelError(ProblemError):
    code = "unknown_model"
    title = "No such model"
    status = 422

    def __init__(self, model_id: str, *, nearest: Sequence[str], withdrawn: bool = False) -> None:
        guess = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        flaw = (
            f"RunComfy no longer offers the model {quoted(model_id)}."
            if withdrawn
            else f"There is no model {quoted(model_id)} here."
        )
        detail = f"{flaw}{guess} GET /v1/models lists every model; ids are case sensitive."
        super().__init__(
            detail, errors=[FieldError(pointer="/model", code=self.code, detail=detail)]
        )


class BrokenModelError(ValueError):
    """A model's description breaks the schema dialect; the message names the rule."""
