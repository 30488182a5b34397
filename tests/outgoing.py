"""A guard over this process's connections: what leads to another place than the allowed ones is refused and remembered."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Refused(OSError):
    """Somebody wanted to connect to, or look up, a place that is not allowed."""


@contextmanager
def only(*allowed: tuple[str, int]) -> Iterator[list[tuple[str, Any]]]:
    """Inside, Python's sockets reach these hosts and ports and no others; what was tried besides."""
    tried: list[tuple[str, Any]] = []
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and tuple(address[:2]) not in allowed:
            tried.append(("connect", address))
            raise Refused(f"connection to {address}")

    def guarded(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    def looked_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if (str(host), int(port or 0)) not in allowed:
            tried.append(("look up", host))
            raise Refused(f"look-up of {host}")
        return look_up(host, port, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", guarded)
        patched.setattr(socket.socket, "connect_ex", guarded_ex)
        patched.setattr(socket, "getaddrinfo", looked_up)
        yield tried
