"""Whose a user is: one with a slash in its id belongs to the service that acts for it."""

OIDC = "oidc"
"""The name space of the identity provider's users, which nobody owns."""


def owner_of(user_id: str) -> str:
    """Return the service that acts for a user, or the user itself."""
    service, slash, _ = user_id.partition("/")
    return service if slash and service != OIDC else user_id
