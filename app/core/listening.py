"""Sockets to serve on, and the addresses they have."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import ConfigurationError


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on an IPv4 or IPv6 address; port 0 takes a free one.

    Clients wait until the socket is served. Raises ConfigurationError if it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay, 40 ms, off only on a socket that says it is TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # until then another process may bind to it too
        except OSError as exc:
            raise ConfigurationError(
                f"Cannot listen on {host} port {port} ({exc.strerror});"
                " choose another --host or --port."
            ) from exc
        yield listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
