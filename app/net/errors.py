"""What can go wrong with a request to an address that a client named.

httpx.TransportError
└── OutwardError
    ├── AddressRefusedError   it leads where it may not; nothing was connected
    ├── NoSuchHostError       the name has no address
    ├── UnreachableError      nothing that speaks HTTP answered, or nothing of use
    ├── TooSlowError          the deadline passed
    ├── DeniedError           a file's server answered, and gives no file
    └── RedirectedTooOftenError

Catching httpx.HTTPError catches them all. The first two say the same, since a difference would
reveal which private names exist: show clients no other text and no other code.
"""

import httpx

from app.net.reach import NOT_PUBLIC


class OutwardError(httpx.TransportError):
    pass


class AddressRefusedError(OutwardError):
    def __init__(self) -> None:
        super().__init__(NOT_PUBLIC)


class NoSuchHostError(OutwardError):
    def __init__(self) -> None:
        super().__init__(NOT_PUBLIC)


class UnreachableError(OutwardError):
    def __init__(self) -> None:
        super().__init__("cannot be reached")


class TooSlowError(OutwardError):
    def __init__(self) -> None:
        super().__init__("did not answer in time")


class DeniedError(OutwardError):
    def __init__(self, status: int) -> None:
        super().__init__(f"answers {status}")
        self.status = status


class RedirectedTooOftenError(OutwardError):
    def __init__(self) -> None:
        super().__init__("redirects too often")
