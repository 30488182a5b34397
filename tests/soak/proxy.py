"""A hostile stretch of network between Label Studio and our receiver."""

import heapq
import http.client
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from curation.labelstudio.redact import redact
from curation.store.inbox import Delivery
from curation.store.workspace import utc_now
from webhooks.receive import SOURCE

LABEL_STUDIO_WAITS_S = 1.0
"""After this long without an answer Label Studio gives a webhook up."""


@dataclass(frozen=True)
class Hostility:
    """Shares of all webhooks, in [0, 1], and for how many seconds they are held."""

    drop: float = 0.10
    refuse: float = 0.03  #: answered 500, and forgotten
    stall: float = 0.005  #: answered after Label Studio has given up, and delivered nevertheless
    delay: float = 0.22
    delay_s: tuple[float, float] = (0.1, 6.0)
    late: float = 0.05  #: held until after reconciliation has been by
    late_s: tuple[float, float] = (15.0, 60.0)
    duplicate: float = 0.10
    copies: tuple[int, int] = (1, 3)


@dataclass(order=True)
class _Held:
    """One copy on its way. `number`: its place in the order in which Label Studio sent."""

    due_s: float
    number: int
    path: str = field(compare=False)
    body: bytes = field(compare=False)
    headers: dict[str, str] = field(compare=False)


class Proxy:
    """Listens on a port of its own and delivers to `target_port` what it lets through.

    `counts`: sent, dropped, refused, stalled, delayed, late, copies, delivered, reordered, undelivered (nobody listened).
    `accepted`: dedupe keys of the bodies that the receiver answered with 2xx.
    """

    def __init__(self, target_port: int, rng: random.Random, hostility: Hostility | None = None) -> None:
        self.target_port = target_port
        self.counts: Counter[str] = Counter()
        self.accepted: set[str] = set()
        self._rng, self._hostility = rng, hostility or Hostility()
        self._held: list[_Held] = []
        self._newest_delivered = -1
        self._changed = threading.Condition()
        self._is_calm, self._is_closing, self._n_under_way = False, False, 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._senders = ThreadPoolExecutor(6)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._server.serve_forever, self._dispatch)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Proxy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._senders.shutdown()

    def calm_down(self, patience_s: float = 60.0) -> None:
        """From now on everything is delivered at once; returns when nothing is on its way any more."""
        deadline_s = time.monotonic() + patience_s
        with self._changed:
            self._is_calm = True
            self._changed.notify_all()
            while self._held or self._n_under_way:
                if not self._changed.wait(max(0.0, deadline_s - time.monotonic())):
                    raise RuntimeError(f"{len(self._held) + self._n_under_way} deliveries are stuck in the proxy")

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        """Decide the fate of one webhook: the status that Label Studio gets, and after how many seconds."""
        with self._changed:
            number, h, rng = self.counts["sent"], self._hostility, self._rng
            self.counts["sent"] += 1
            fate = 1.0 if self._is_calm else rng.random()
            if fate < h.drop:
                self.counts["dropped"] += 1
                return 200, 0.0
            if fate < h.drop + h.refuse:
                self.counts["refused"] += 1
                return 500, 0.0
            n_copies = 1 + (rng.randint(*h.copies) if not self._is_calm and rng.random() < h.duplicate else 0)
            self.counts["copies"] += n_copies - 1
            for _ in range(n_copies):
                due_s = time.monotonic() + self._delay_s()
                heapq.heappush(self._held, _Held(due_s, number, path, body, headers))
            is_stalled = not self._is_calm and rng.random() < h.stall
            self.counts["stalled"] += is_stalled
            self._changed.notify_all()
            return 200, 1.5 * LABEL_STUDIO_WAITS_S if is_stalled else 0.0

    def _delay_s(self) -> float:
        chance, h = 1.0 if self._is_calm else self._rng.random(), self._hostility
        if chance < h.late:
            self.counts["late"] += 1
            return self._rng.uniform(*h.late_s)
        if chance < h.late + h.delay:
            self.counts["delayed"] += 1
            return self._rng.uniform(*h.delay_s)
        return 0.0

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                while not self._is_closing and not self._is_due():
                    wait_s = self._held[0].due_s - time.monotonic() if self._held else None
                    self._changed.wait(wait_s)
                if self._is_closing:
                    return
                held = heapq.heappop(self._held)
                self._n_under_way += 1
                self.counts["reordered"] += held.number < self._newest_delivered
                self._newest_delivered = max(self._newest_delivered, held.number)
            self._senders.submit(self._deliver, held)

    def _is_due(self) -> bool:
        return bool(self._held) and (self._is_calm or self._held[0].due_s <= time.monotonic())

    def _deliver(self, held: _Held) -> None:
        status = self._post(held)
        with self._changed:
            self._n_under_way -= 1
            if 200 <= status < 300:
                self.counts["delivered"] += 1
                self.accepted.add(Delivery(SOURCE, redact(held.body), utc_now()).dedupe_key)
            else:
                self.counts["undelivered"] += 1
            self._changed.notify_all()

    def _post(self, held: _Held) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.target_port, timeout=20)
        try:
            connection.request("POST", held.path, held.body, held.headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
                status, after_s = proxy.take(self.path, body, kept)
                time.sleep(after_s)
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    pass  # Label Studio has given up

            def log_message(self, *_: object) -> None:
                """Silence."""

        return Handler
