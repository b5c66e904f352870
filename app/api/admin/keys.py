"""/v1/admin/keys: the credentials of users, whose secrets are shown once."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Query, Response
from pydantic import BeforeValidator, Field, StringConstraints

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody, AdminRead, LimitsBody, LimitsRead, instant
from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody, OptionalJsonBody
from app.api.paging import Listed, Page, page_of_ids
from app.api.problems import problem_responses
from app.auth.directory.errors import KeyNotFoundError, KeyRevokedError
from app.auth.directory.models import LONGEST_OVERLAP_S, NewSecret
from app.auth.scopes import DEFAULT_SCOPES, Scope
from app.jobs.wire import Instant

router = admin_router("/keys")

_Scopes = Annotated[
    list[str],
    Field(
        max_length=50,
        description=f"Any of {', '.join(scope.value for scope in Scope)}. `act_as` is only for"
        " keys of users without a slash in their id.",
    ),
]


class KeyPatch(AdminBody):
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    scopes: _Scopes = Field(default=[scope.value for scope in DEFAULT_SCOPES])
    models: Annotated[list[str] | None, Field(max_length=1000)] = Field(
        default=None, description="The models it may use; null: whatever the plan allows."
    )
    limits: LimitsBody = Field(
        default={}, description="Apply in addition to the user's limits; the tightest counts."
    )
    plan: str | None = Field(
        default=None,
        description="With `act_as`: the plan of the users it creates; null: the default one.",
    )
    expires_at: Annotated[datetime | None, BeforeValidator(instant)] = None


class KeyCreate(CreateBody, KeyPatch):
    user: str = Field(description="An existing user.")


class KeyRotate(CreateBody, AdminBody):
    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=LONGEST_OVERLAP_S)] = Field(
        default=86_400, description="How long the current secret stays valid; 0 ends it at once."
    )


class KeyRead(AdminRead):
    object: Literal["key"] = "key"
    id: str
    user: str
    user_disabled: bool = Field(description="Whether all of its user's keys are refused.")
    name: str
    scopes: list[str]
    models: list[str] | None
    limits: LimitsRead
    plan: str | None
    created_at: Instant
    expires_at: Instant | None
    previous_expires_at: Instant | None = Field(
        description="When the secret before the last rotation ends, or ended."
    )
    revoked_at: Instant | None
    last_used_at: Instant | None


class KeySecretRead(KeyRead):
    key: str = Field(description="The key itself; it cannot be shown again.")


class KeyList(Listed[KeyRead]):
    pass


_Page = Annotated[Page, Depends(page_of_ids("key", "user"))]


@router.post(
    "",
    status_code=201,
    summary="Create a key",
    openapi_extra=body_of(KeyCreate),
    responses=problem_responses(*BODY_PROBLEMS),
)
async def create_key(
    gateway: Gateway, operator: Operator, body: JsonBody, response: Response
) -> KeySecretRead:
    asked = parse(KeyCreate, body)
    changes = asked.changes(without="user")
    made = await gateway.keys.create(asked.user, changes, actor=operator)
    response.headers["Location"] = f"{gateway.base_path}/v1/admin/keys/{made.key.id}"
    return _read_secret(made)


@router.get("", summary="List keys, newest first; `user` selects one user")
async def list_keys(
    gateway: Gateway, page: _Page, user: Annotated[str | None, Query()] = None
) -> KeyList:
    keys = await gateway.keys.page(user=user, before=page.cursor, limit=page.to_read)
    return KeyList.of(keys, page, read=KeyRead.model_validate)


@router.get("/{key_id}", summary="Read a key", responses=problem_responses(KeyNotFoundError))
async def get_key(gateway: Gateway, key_id: str) -> KeyRead:
    return KeyRead.model_validate(await gateway.keys.get(key_id))


@router.patch(
    "/{key_id}",
    summary="Change a key",
    description="Absent fields stay as they are.",
    openapi_extra=body_of(KeyPatch),
    responses=problem_responses(*BODY_PROBLEMS, KeyNotFoundError, KeyRevokedError),
)
async def change_key(gateway: Gateway, operator: Operator, key_id: str, body: JsonBody) -> KeyRead:
    changes = parse(KeyPatch, body).changes()
    return KeyRead.model_validate(await gateway.keys.change(key_id, changes, actor=operator))


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke a key at once and permanently",
    description="It stays in the list with `revoked_at`. Revoking it again changes nothing.",
    responses=problem_responses(KeyNotFoundError),
)
async def revoke_key(gateway: Gateway, operator: Operator, key_id: str) -> None:
    await gateway.keys.revoke(key_id, actor=operator)


@router.post(
    "/{key_id}/rotate",
    summary="Give a key a new secret",
    description="The current secret stays valid for `overlap_seconds`; any older one ends now.",
    openapi_extra=body_of(KeyRotate, required=False),
    responses=problem_responses(*BODY_PROBLEMS, KeyNotFoundError, KeyRevokedError),
)
async def rotate_key(
    gateway: Gateway, operator: Operator, key_id: str, body: OptionalJsonBody
) -> KeySecretRead:
    overlap = timedelta(seconds=parse(KeyRotate, body).overlap_seconds)
    return _read_secret(await gateway.keys.rotate(key_id, overlap=overlap, actor=operator))


def _read_secret(made: NewSecret) -> KeySecretRead:
    read = KeyRead.model_validate(made.key)
    return KeySecretRead.model_construct(**dict(read), key=str(made.credential))
