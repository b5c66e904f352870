"""What can go wrong with a request to an address that a client named.

httpx.TransportError
└── OutwardError
    ├── AddressRefusedError   it leads where it may not; nothing was connected
    ├── NoSuchHostError       the name has no address
    ├── UnreachableError      nothing that speaks HTTP answered, or nothing of use
    ├── TooSlowError          the deadline passed
    ├── DeniedError           a file's server answered, and gives no file
    └── RedirectedTooOftenError

Catching httpx.HTTPError catches them all. The first two must look the same to clients, since a
difference would reveal which private names exist: show one text and one code for both.
"""

import httpx


class OutwardError(httpx.TransportError):
    def __init__(self) -> None:
        super().__init__("")


class AddressRefusedError(OutwardError): ...


class NoSuchHostError(OutwardError): ...


class UnreachableError(OutwardError): ...


class TooSlowError(OutwardError): ...


class DeniedError(OutwardError):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class RedirectedTooOftenError(OutwardError): ...
