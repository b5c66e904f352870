"""What a key or a client token may do."""

from enum import StrEnum


class Scope(StrEnum):
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    FILES = "files"
    WEBHOOKS = "webhooks"
    TOKENS = "tokens"  # may mint client tokens
    ACT_AS = "act_as"  # may act for users that belong to its owner


DEFAULT_SCOPES = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.FILES, Scope.WEBHOOKS)

CLIENT_SCOPES = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.FILES)
"""The most that client tokens and users of an identity provider may have."""
