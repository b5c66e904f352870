"""/v1/files: images and videos for the inputs of jobs."""

from functools import partial
from typing import Annotated, Literal

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.api.content import ANSWERS, DOWNLOAD, RangeNotSatisfiableError, stored_content
from app.api.deps import Gateway, caller
from app.api.links import Expires, InvalidSignatureError, Signature
from app.api.problems import PayloadTooLargeError, problem_responses
from app.api.routing import caller_router
from app.api.uploads import uploaded_bytes
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.core.errors import InvalidRequestError, MalformedBodyError
from app.jobs.wire import Instant
from app.quotas.errors import QuotaExceededError
from app.storage.errors import (
    FileTooLargeError,
    StorageUnavailableError,
    UnknownFileError,
    UnsupportedFileError,
)
from app.storage.files import File

router = caller_router("/v1/files", tag="files")

_authenticate = caller(Scope.FILES)
_FileCaller = Annotated[Principal, Depends(_authenticate)]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY["schema"]},
                }
            },
            "image/*": _BINARY,
            "video/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}


class FileUrlsRead(BaseModel):
    self: str
    content: str = Field(description="Downloads the file without a key, for 24 hours.")


class FileRead(BaseModel):
    id: str = Field(description="Use it in an input's media field in place of a URL.")
    object: Literal["file"] = "file"
    size: int
    sha256: str
    media_type: str = Field(
        description="Detected from the first bytes, not from the upload's headers."
    )
    created_at: Instant
    expires_at: Instant
    urls: FileUrlsRead


@router.post(
    "",
    status_code=201,
    summary="Upload a file",
    description="An image of at most 50 MiB or a video of at most 100 MiB, as the multipart field"
    " `file` or as the raw body. It is deleted when it expires, but not before the last job that"
    " names it has ended.",
    openapi_extra=_UPLOAD,
    responses=problem_responses(
        MalformedBodyError,
        InvalidRequestError,
        UnsupportedFileError,
        FileTooLargeError,
        PayloadTooLargeError,
        QuotaExceededError,
        StorageUnavailableError,
    ),
)
async def upload_file(
    gateway: Gateway, caller: _FileCaller, request: Request, response: Response
) -> FileRead:
    source = uploaded_bytes(request)
    await gateway.quotas.count_submit(caller)
    file = await gateway.uploads.receive(source, user_id=caller.user_id)
    response.headers["Location"] = f"{gateway.base_path}/v1/files/{file.id}"
    return _read(gateway, file)


@router.get(
    "/{file_id}",
    summary="Read a file's details",
    responses=problem_responses(UnknownFileError),
)
async def get_file(gateway: Gateway, caller: _FileCaller, file_id: str) -> FileRead:
    return _read(gateway, await gateway.files.get(file_id, user_id=caller.user_id))


@router.head("/{file_id}/content", include_in_schema=False)
@router.get(
    "/{file_id}/content",
    summary="Download a file",
    description=(
        "Supports ranges and conditional requests. A signed link needs no key until it expires."
    ),
    response_class=StreamingResponse,
    openapi_extra={"security": [{"HTTPBearer": []}, {}]},
    responses={
        **ANSWERS,
        **problem_responses(
            InvalidSignatureError,
            UnknownFileError,
            RangeNotSatisfiableError,
            StorageUnavailableError,
        ),
    },
)
@DOWNLOAD
async def download_file(
    gateway: Gateway,
    request: Request,
    file_id: str,
    expires: Expires = None,
    signature: Signature = None,
) -> Response:
    if signature is None:
        principal = await _authenticate(request)
        file = await gateway.files.get(file_id, user_id=principal.user_id)
    else:
        at = gateway.clock.now()
        if expires is None or not gateway.file_links.is_signed(
            file_id, expires=expires, signature=signature, at=at
        ):
            raise InvalidSignatureError
        file = await gateway.files.get_signed(file_id)
    # Checked before the headers are sent, since they promise a length.
    await gateway.files.require_content(file)
    return stored_content(
        request,
        partial(gateway.files.read, file),
        size=file.size,
        sha256=file.sha256,
        media_type=file.media_type,
        name=file.id,
    )


def _read(gateway: Gateway, file: File) -> FileRead:
    links = gateway.file_links
    return FileRead(
        id=file.id,
        size=file.size,
        sha256=file.sha256,
        media_type=file.media_type,
        created_at=file.created_at,
        expires_at=file.expires_at,
        urls=FileUrlsRead(
            self=links.about(file.id), content=links.for_owner(file.id, at=gateway.clock.now())
        ),
    )
