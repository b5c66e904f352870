"""What goes wrong with files and where they are kept."""

from app.core.errors import FieldError, InvalidRequestError, NotFoundError, ProblemError


class ObjectGoneError(Exception):
    """The store has nothing under this key."""


class LostFileError(Exception):
    """A file that a job names is no longer where it was kept."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"The file {file_id} is gone from the gateway's storage; send it again.")


class StorageUnavailableError(ProblemError):
    code = "storage_unavailable"
    title = "The storage does not answer"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "The gateway's storage does not answer, or is full. Try again shortly.",
            headers={"Retry-After": "5"},
        )


class UnknownFileError(NotFoundError):
    code = "file_not_found"
    title = "No such file"

    def __init__(self, file_id: str) -> None:
        super().__init__(
            f"You have no file {file_id[:64]!r}; it may have expired: upload it again."
        )


class FileTooLargeError(ProblemError):
    code = "file_too_large"
    title = "The file is too large"
    status = 413


class UnsupportedFileError(InvalidRequestError):
    code = "unsupported_file"
    title = "No model takes such a file"

    def __init__(self, detail: str) -> None:
        error = FieldError(pointer="/file", code=self.code, detail=detail)
        super().__init__(detail, errors=[error])
