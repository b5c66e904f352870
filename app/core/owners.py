"""Whose a user is: one with a slash in its id belongs to the service that acts for it."""

_OIDC = "oidc"  # a name space that nobody owns


def owner_of(user_id: str) -> str:
    """Return the service that acts for a user, or the user itself."""
    service, slash, _ = user_id.partition("/")
    return service if slash and service != _OIDC else user_id
