"""JSON pointers (RFC 6901) into what a client sent, safe to put in any answer."""

_LONGEST_STEP = 200


def json_pointer(*steps: str | int) -> str:
    """Write a pointer, or the continuation of one; a step that is too long is cut."""
    return "".join(f"/{_escaped(str(step))}" for step in steps)


def pointer_steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _escaped(step: str) -> str:
    plain = step[:_LONGEST_STEP].encode("utf-8", "replace").decode()
    return plain.replace("~", "~0").replace("/", "~1")
