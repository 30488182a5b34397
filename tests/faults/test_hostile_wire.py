"""Senders that mean harm, over real sockets: slow, endless, compressed, flooding. Threads come free and memory stays flat."""

import gzip
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from curation.store.db import Database
from tests.faults.test_receiver import _bodies
from tests.serving import SECRET, Served, served
from webhooks import patience
from webhooks.patience import PatientSocket

POST = b"POST /hooks/labelstudio HTTP/1.1\r\nHost: x\r\n"
HEAD = POST + b"Connection: close\r\n"
GOOD = HEAD + b"X-Refurbish-Secret: " + SECRET.encode() + b"\r\n"
FORM = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
MIB = 1 << 20
PAGES_MIB = 160
"""What the peak may grow by: one delivery of 32 MiB, received, redacted and handed to the database, several times over."""


@pytest.fixture
def pair() -> Iterator[tuple[PatientSocket, socket.socket]]:
    """Our end of a connection, and the other."""
    ours, theirs = socket.socketpair()
    with PatientSocket(fileno=ours.detach()) as patient, theirs:
        patient.setblocking(True)
        yield patient, theirs


def test_a_read_ends_when_its_time_is_used_up(pair: tuple[PatientSocket, socket.socket]) -> None:
    """What comes after the time that was given reads as the end of the connection, until more time is given (fault 13)."""
    patient, other = pair
    other.sendall(b"abc")
    patient.give(30)
    assert patient.recv(1) == b"a"
    patient.give(0)
    assert patient.recv(1) == b""
    patient.give(30)
    assert patient.recv(9) == b"bc"


def test_a_body_that_keeps_coming_has_the_time_it_needs(pair: tuple[PatientSocket, socket.socket]) -> None:
    """Every byte brings time with it, so that a large one through a slow line is not cut off; silence brings none (fault 13)."""
    patient, other = pair
    patient.give(0.001, bytes_per_s=0.1)
    other.sendall(b"abc")
    assert patient.recv(1) == b"a"
    threading.Event().wait(0.01)
    assert patient.recv(9) == b"bc" and not patient.is_over
    patient.give(0)
    assert patient.recv(9) == b"" and patient.is_over


def test_silence_ends_a_read(pair: tuple[PatientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that says nothing is taken for gone, and the socket blocks as before (fault 13)."""
    monkeypatch.setattr(patience, "IDLE_READ_S", 0.01)
    assert pair[0].recv(1) == b"" and pair[0].gettimeout() == patience.SEND_S


def test_an_answer_that_nobody_reads_is_given_up(
    pair: tuple[PatientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A receiver that takes nothing breaks the connection instead of holding a thread (fault 13)."""
    monkeypatch.setattr(patience, "SEND_S", 0.01)
    pair[0].setblocking(True)
    file = tmp_path / "large"
    file.write_bytes(bytes(8 * MIB))
    with pytest.raises(BrokenPipeError, match="not read in time"):
        pair[0].sendall(bytes(8 * MIB))
    with file.open("rb") as large, pytest.raises(BrokenPipeError, match="not read in time"):
        pair[0].sendfile(large)


TRICKLED = {
    "head": b"POST /hooks/labelstudio HTTP/1.1\r\nHost: x\r\nX-Trickle: ",
    "delivery": GOOD + b"Content-Length: 1000000\r\n\r\n",
    "form": FORM + b"Content-Length: 60000\r\n\r\nname=",
}


@pytest.mark.slow
@pytest.mark.parametrize("beginning", TRICKLED.values(), ids=list(TRICKLED))
def test_senders_of_single_bytes_do_not_hold_the_service(tmp_path: Path, beginning: bytes) -> None:
    """As many of them as threads, two of three kinds without a secret: an honest delivery gets through (fault 13)."""
    ending = threading.Event()
    with served(tmp_path, f"sqlite:///{tmp_path / 'r.db'}", arguments=("--threads", "2")) as running:
        held = [running.connect() for _ in range(2)]
        senders = [threading.Thread(target=_trickle, args=(one, beginning, ending)) for one in held]
        for sender in senders:
            sender.start()
        ending.wait(1)
        assert running.deliver(b"honest", timeout_s=2 * patience.BODY_READ_S) == 202
        ending.set()
        for one, sender in zip(held, senders, strict=True):
            sender.join()
            one.close()


def _trickle(connection: socket.socket, beginning: bytes, ending: threading.Event) -> None:
    with suppress(OSError):
        connection.sendall(beginning)
        while not ending.wait(0.2):
            connection.sendall(b"a")


@pytest.mark.slow
@pytest.mark.parametrize(
    "said", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], ids=["silent", "answered"]
)
def test_connections_that_are_only_open_hold_nobody_up(tmp_path: Path, said: bytes) -> None:
    """Far more of them than threads, before their first request or after their last: a delivery gets through (fault 13)."""
    with served(tmp_path, f"sqlite:///{tmp_path / 'r.db'}", arguments=("--threads", "2")) as running, ExitStack() as stack:
        for one in [stack.enter_context(running.connect()) for _ in range(16)]:
            one.sendall(said)
            assert not said or one.recv(4) == b"HTTP"
        assert running.deliver(b"honest", timeout_s=8) == 202


@pytest.mark.slow
def test_the_rest_of_a_body_is_never_a_request(tmp_path: Path) -> None:
    """A body that nobody reads and that is not waited for any longer ends its connection (fault 13)."""
    smuggled = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with served(tmp_path, f"sqlite:///{tmp_path / 'r.db'}") as running, running.connect() as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        found = b""
        with suppress(OSError):
            while more := connection.recv(4096):
                found += more
                threading.Event().wait(6)  # gunicorn reads what was left unread for 5 s
                connection.sendall(smuggled)
        assert found[9:12] == b"401" and found.count(b"HTTP/1.1") == 1


@pytest.mark.slow
def test_memory_stays_flat_whatever_is_sent(tmp_path: Path) -> None:
    """Bodies beyond the limit, gzip bombs and floods of headers are refused or stored as they are (fault 13)."""
    with served(tmp_path, f"sqlite:///{tmp_path / 'r.db'}") as running:
        assert running.deliver(bytes(32 * MIB)) == 202  # the largest that is taken
        before = _peak_bytes(running)
        bomb = gzip.compress(bytes(64 * MIB))
        for _ in range(3):
            assert _status(running, GOOD + b"Content-Length: 99999999999\r\n\r\n") == 413
            assert _status(running, GOOD + b"Transfer-Encoding: chunked\r\n\r\n", endless=200) == 413
            assert _status(running, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", endless=200) == 401
            zipped = GOOD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
            assert _status(running, zipped + bomb) == 202
            assert _status(running, FORM + b"Content-Length: 9999999\r\n\r\n", endless=10) in (400, 413)
            assert _status(running, GOOD + b"X-A: " + b"a" * 50 * MIB) in (None, 400, 431)
            assert _status(running, GOOD + b"X-A: b\r\n" * 1_000_000) in (None, 400, 431)
            assert _status(running, b"GET /" + b"a" * 50 * MIB) in (None, 400, 414)
        assert _peak_bytes(running) - before < PAGES_MIB * MIB
        assert running.deliver(b"honest") == 202
        assert "Traceback" not in running.log.read_text()
    db = Database(running.database_url)
    assert [len(body) for body in _bodies(db)] == [32 * MIB, len(bomb), len(b"honest")]
    db.dispose()


BROKEN_CHUNKS = (b"3\r\nab", b"zz\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef", b"0\r\nbad trailer\r\n\r\n")


@pytest.mark.slow
def test_broken_chunks_are_the_senders_fault(tmp_path: Path) -> None:
    """Chunks without length, end or sense: 400 for the hook and for a form, and no traceback in the log (fault 13)."""
    with served(tmp_path, f"sqlite:///{tmp_path / 'r.db'}") as running:
        for beginning in (GOOD, FORM, HEAD.replace(b"hooks/labelstudio", b"ml/setup") + b"Authorization: Basic " + _BASIC):
            for broken in BROKEN_CHUNKS:
                said = running.raw(beginning + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + broken)
                assert said[9:12] in (b"400", b"413"), (beginning, broken)
        assert "Traceback" not in running.log.read_text()


_BASIC = b64encode(b"refurbish:" + SECRET.encode()) + b"\r\n"


def _status(running: Served, beginning: bytes, *, endless: int = 0) -> int | None:
    """The status of the answer to these bytes and, at most, so many MiB of chunks; None: hung up without an answer."""
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    with running.connect() as connection:
        with suppress(OSError):
            connection.sendall(beginning)
            for _ in range(endless * 16):
                connection.sendall(chunk)
        with suppress(OSError):
            said = connection.recv(4096)
            return int(said.split(b" ", 2)[1]) if said else None
    return None


def _peak_bytes(running: Served) -> int:
    """The most memory that any process of the service ever held."""
    root = running.process.pid
    pids = [root, *Path(f"/proc/{root}/task/{root}/children").read_text().split()]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return max(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
