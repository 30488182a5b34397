"""Connections that cannot hold a thread for long: whoever sends or reads byte by byte is dropped.

gunicorn's threads read a request to its end, however slowly it comes; a sender of one byte now and then, who needs no secret,
would keep one of them for hours. Here a request has a time for its head, one for its body and one for silence in between.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.exceptions import ClientDisconnected

HEAD_READ_S = 5.0
"""From the first byte of a request to the end of its head; an honest one comes in one piece."""

BODY_READ_S = 20.0
"""For the body as a whole."""

IDLE_READ_S = 10.0
"""A sender that is silent for this long in the middle of a request is dropped."""

SEND_S = 60.0
"""For one piece of an answer, some kilobytes; who does not read it is dropped."""


class PatientSocket(socket.socket):
    """A connection whose reads end, as if the sender had closed it, when the time given is used up."""

    _given_s = HEAD_READ_S
    _deadline_s: float | None = None

    def give(self, seconds: float) -> None:
        """From the next read on, this long for all reads together."""
        self._given_s, self._deadline_s = seconds, None

    def setblocking(self, flag: bool) -> None:
        """What gunicorn sets before it reads or answers; blocking means: for `SEND_S` at most."""
        self.settimeout(SEND_S if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Some bytes, or none: the sender is gone, or took too long."""
        told_s = self.gettimeout()
        if told_s == 0:
            return super().recv(size, flags)
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._given_s
        left_s = min(self._deadline_s - time.monotonic(), IDLE_READ_S, SEND_S if told_s is None else told_s)
        if left_s <= 0:
            return b""
        self.settimeout(left_s)
        try:
            return super().recv(size, flags)
        except TimeoutError:
            return b""
        finally:
            self.settimeout(told_s)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """All of it, or BrokenPipeError where it is not read in time."""
        with _as_broken():
            super().sendall(data, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Part of a file, or BrokenPipeError where it is not read in time."""
        with _as_broken():
            return super().sendfile(file, offset, count)


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, each connection a `PatientSocket`."""

    def handle(self, conn: Any) -> Any:
        """One request of a connection; called by gunicorn in a thread."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
        conn.sock.give(HEAD_READ_S)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The request whose head was read; its body is read by the application."""
        conn.sock.give(BODY_READ_S)
        return super().handle_request(req, conn)


class Body:
    """A request's body, whose damage is the sender's fault: ClientDisconnected, which is answered 400."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; all of them without a size."""
        with _as_disconnected():
            return bytes(self._stream.read(None if size is None or size < 0 else size))

    def readline(self, size: int = -1) -> bytes:
        """The next line, or what there is of it."""
        with _as_disconnected():
            return bytes(self._stream.readline(None if size is None or size < 0 else size))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


def wrapped(application: Callable[..., Any]) -> Callable[..., Any]:
    """The application, with a `Body` in place of gunicorn's own, which fails in half a dozen ways on broken chunks."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"] = Body(environ["wsgi.input"])
        return application(environ, start_response)

    return answer


@contextmanager
def _as_disconnected() -> Iterator[None]:
    try:
        yield
    except (OSError, ParseException) as error:
        raise ClientDisconnected(f"the body cannot be read: {error}") from error


@contextmanager
def _as_broken() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise BrokenPipeError(errno.EPIPE, "the answer was not read in time") from error
