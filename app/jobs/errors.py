"""What can be wrong with a request about a job."""

from collections.abc import Sequence

from app.core.errors import FieldError, InvalidRequestError, NotFoundError, ProblemError


class InvalidInputError(InvalidRequestError):
    code = "invalid_input"
    title = "The input does not match the model's schema"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        rules = "a rule" if len(errors) == 1 else f"{len(errors)} rules"
        super().__init__(
            f"The input breaks {rules} of the model; `errors` names each field. Nothing was sent.",
            errors=list(errors),
        )


class JobNotFoundError(NotFoundError):
    code = "job_not_found"
    title = "No such job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id[:64]!r} here, or it is not yours.")


class IdempotencyConflictError(ProblemError):
    code = "idempotency_conflict"
    title = "The idempotency key belongs to another request"
    status = 409

    def __init__(self, job_id: str, *, is_erased: bool = False) -> None:
        super().__init__(_ERASED if is_erased else _ANOTHER_BODY, job=job_id)


_ANOTHER_BODY = (
    "This Idempotency-Key already made a job from another body within the last 24 hours;"
    " send the same body again to see that job, or use a new key for a new job."
)
_ERASED = (
    "The job that this Idempotency-Key made within the last 24 hours was erased;"
    " use a new key for a new job."
)


class NotCancellableError(ProblemError):
    code = "not_cancellable"
    title = "The job can no longer be cancelled"
    status = 409

    def __init__(self, *, reason: str) -> None:
        super().__init__(_WHY_NOT[reason], reason=reason)


_WHY_NOT = {
    "in_progress": "RunComfy is already working on this job; it runs on and will be charged.",
    "finished": "This job has already ended.",
    "submit_unknown": (
        "Nobody knows whether RunComfy has this job, so there is nothing to cancel there;"
        " an operator can settle, release or resubmit it."
    ),
}


class JobNotFinalError(ProblemError):
    code = "job_not_final"
    title = "The job has not ended"
    status = 409

    def __init__(self, status: str) -> None:
        super().__init__(
            f"The job is {status}, and only a job that has ended can be erased; cancel it first.",
            job_status=status,
        )


class WrongStateError(ProblemError):
    code = "wrong_state"
    title = "The job is not in a state for this"
    status = 409

    def __init__(self, action: str, state: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"{action} is for jobs that are {', '.join(allowed)}; this one is {state}.", state=state
        )


class RequestTakenError(ProblemError):
    code = "request_taken"
    title = "The request belongs to a job already"
    status = 409

    def __init__(self, request_id: str, job_id: str) -> None:
        super().__init__(
            f"The request {request_id!r} belongs to {job_id}; look for another one.", job=job_id
        )
