"""Connections that cannot hold a thread for long: whoever sends or reads byte by byte is dropped.

gunicorn's threads read a request to its end, however slowly it comes; a sender of one byte now and then, who needs no secret,
would keep one of them for hours. Here a request has a time for its head, one for its body and one for silence in between, and
who has said nothing yet, or is only to be taken leave of, holds nobody up.
"""

import errno
import math
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from gunicorn import util
from gunicorn.http.errors import ParseException
from gunicorn.workers import gthread
from werkzeug.exceptions import ClientDisconnected

HEAD_READ_S = 5.0
"""From the first byte of a request to the end of its head; an honest one comes in one piece."""

BODY_READ_S = 20.0
"""For the body as a whole, and `BODY_BYTES_PER_S` on top of it."""

BODY_BYTES_PER_S = 64 * 1024
"""A body that comes at least this fast is never cut off, however large it is."""

IDLE_READ_S = 10.0
"""A sender that is silent for this long in the middle of a request is dropped."""

SEND_S = 60.0
"""For one piece of an answer; who does not read it is dropped."""

PIECE_BYTES = 64 * 1024

LINGER_S = 0.5
"""After the last answer, for the other side to hang up first: whatever it still sends must not make it lose the answer."""


class PatientSocket(socket.socket):
    """A connection whose reads end, as if the sender had closed it, when the time given is used up."""

    is_over = False
    """Whether a read was cut off: what comes now is the rest of it, never another request."""
    _given_s = HEAD_READ_S
    _bytes_per_s = math.inf
    _deadline_s: float | None = None

    def give(self, seconds: float, *, bytes_per_s: float = math.inf) -> None:
        """From the next read on, this long for all reads together, and longer by what they bring."""
        self._given_s, self._bytes_per_s, self._deadline_s, self.is_over = seconds, bytes_per_s, None, False

    def setblocking(self, flag: bool) -> None:
        """What gunicorn sets before it reads or answers; blocking means: for `SEND_S` at most."""
        if self.fileno() >= 0:  # gunicorn closes once more what is closed
            self.settimeout(SEND_S if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Some bytes, or none: the sender is gone, or took too long."""
        told_s = self.gettimeout()
        if told_s == 0:
            return super().recv(size, flags)
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._given_s
        left_s = min(self._deadline_s - time.monotonic(), IDLE_READ_S, SEND_S if told_s is None else told_s)
        self.is_over = left_s <= 0
        if self.is_over:
            return b""
        self.settimeout(left_s)
        try:
            found = super().recv(size, flags)
        except TimeoutError:
            self.is_over = True
            return b""
        finally:
            self.settimeout(told_s)
        self._deadline_s += len(found) / self._bytes_per_s
        return found

    def sendall(self, data: Any, flags: int = 0) -> None:
        """All of it, or BrokenPipeError where a piece is not read in time."""
        whole = memoryview(data)
        with _as_broken():
            for start in range(0, len(whole), PIECE_BYTES):
                super().sendall(whole[start : start + PIECE_BYTES], flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Part of a file, or BrokenPipeError where it is not read in time."""
        with _as_broken():
            return super().sendfile(file, offset, count)


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, each connection a `PatientSocket`."""

    def enqueue_req(self, conn: Any) -> None:
        """A thread for it; one that has said nothing yet waits without. Called by gunicorn."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
        else:
            silent: Future[Any] = Future()
            silent.set_result(gthread._DEFER)
            self.finish_request(conn, silent)

    def handle(self, conn: Any) -> Any:
        """One request of a connection; called by gunicorn in a thread. After its last one it is closed here: gunicorn would
        do it where all connections are waited for."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
        conn.sock.give(HEAD_READ_S)
        goes_on = super().handle(conn)
        if goes_on and not conn.sock.is_over:
            return goes_on
        conn.sock.give(LINGER_S)
        util.close_graceful(conn.sock, timeout=LINGER_S)
        return False

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The request whose head was read; its body is read by the application."""
        conn.sock.give(BODY_READ_S, bytes_per_s=BODY_BYTES_PER_S)
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
