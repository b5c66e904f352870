"""What operators cannot do to plans, users and keys."""

from app.core.errors import NotFoundError, ProblemError


class PlanNotFoundError(NotFoundError):
    code = "plan_not_found"
    title = "No such plan"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no plan {name[:64]!r}; the list of plans has their names.")


class UserNotFoundError(NotFoundError):
    code = "user_not_found"
    title = "No such user"

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no user {user_id[:260]!r}; the list of users has their ids.")


class KeyNotFoundError(NotFoundError):
    code = "key_not_found"
    title = "No such key"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no key {key_id[:64]!r}; the list of keys has their ids.")


class PlanExistsError(ProblemError):
    code = "plan_exists"
    title = "The plan exists already"
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a plan {name!r} already; change that one instead.")


class UserExistsError(ProblemError):
    code = "user_exists"
    title = "The user exists already"
    status = 409

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is a user {user_id!r} already; change that one instead.")


class PlanInUseError(ProblemError):
    code = "plan_in_use"
    title = "Users or keys are on this plan"
    status = 409

    def __init__(self, name: str, *, users: int, keys: int) -> None:
        super().__init__(
            f"The plan {name!r} has {_counted(users, 'user')} and {_counted(keys, 'key')};"
            " give them another plan first (PATCH their `plan`).",
            users=users,
            keys=keys,
        )


class DefaultPlanInUseError(PlanInUseError):
    def __init__(self, name: str, *, users: int) -> None:
        ProblemError.__init__(
            self,
            f"The plan {name!r} is the default of {_counted(users, 'user')} without a plan,"
            " who would have no limits at all; make another plan the default first"
            ' (PATCH it with {"default": true}).',
            users=users,
            keys=0,
        )


class UserHasLiveJobsError(ProblemError):
    code = "user_has_live_jobs"
    title = "The user has unfinished jobs"
    status = 409

    def __init__(self, user_id: str, *, jobs: int) -> None:
        super().__init__(
            f"The user {user_id!r} has {_counted(jobs, 'unfinished job')}; disable the"
            ' user (PATCH it with {"disabled": true}), cancel them or wait for their end, settle'
            " or release those that are `submit_unknown`, and then delete the user.",
            jobs=jobs,
        )


class KeyRevokedError(ProblemError):
    code = "key_revoked"
    title = "The key was revoked"
    status = 409

    def __init__(self) -> None:
        super().__init__("This key was revoked, which cannot be undone; make a new one.")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
