"""How many deliveries a second the receiver stores durably, and how fast it answers.

    python -m tests.benchmarks.receiver                       # SQLite and PostgreSQL, 32 senders
    python -m tests.benchmarks.receiver --database sqlite --deliveries 6000 --connections new

Starts the real service (`refurbish serve`) as a process of its own, sends bodies of Label Studio's shape and
size from parallel senders, one in ten of them twice, and then reads the inbox: every delivery that was answered
2xx must be there, none twice, each with one job. `--connections new` opens a connection for each delivery, as
Label Studio does. SQLite runs with `synchronous=FULL`, PostgreSQL with its defaults.
"""

import argparse
import json
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from curation.store.db import Database
from curation.store.tables import Inbox, JobRow
from tests.serving import SECRET, Served, postgres, served

DUPLICATE_SHARE = 0.1
ANSWER_LIMIT_MS = 250.0
RATE_TARGET = 150.0


@dataclass
class Tally:
    """What one sender saw. Times are milliseconds from the first byte sent to the whole answer."""

    ms: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def bodies(n: int, rng: random.Random) -> list[bytes]:
    """Distinct ANNOTATION_CREATED bodies of about 6 kB: annotation, task with data, and a project of 50 keys."""
    project = {f"setting_{i}": "x" * 40 for i in range(48)} | {
        "id": 1,
        "token": "secret",
        "label_config": "<View>" + " " * 2000 + "</View>",
    }
    made = []
    for number in range(n):
        data = {"listing": f"L{number:06}", "title": f"item {rng.random()}", "description": "word " * 60}
        choice = {"type": "choices", "from_name": "category", "to_name": "title", "value": {"choices": ["Home / Garden"]}}
        annotation = {"id": number, "task": number, "result": [choice], "was_cancelled": False, "lead_time": rng.random() * 30}
        body = {
            "action": "ANNOTATION_CREATED",
            "annotation": annotation,
            "task": {"id": number, "data": data},
            "project": project,
        }
        made.append(json.dumps(body).encode())
    return made


def send_all(port: int, plan: Sequence[bytes], n_senders: int, *, keep: bool) -> tuple[list[Tally], float]:
    """Every body once, by parallel senders; what they saw and the seconds it took."""
    tallies = [Tally() for _ in range(n_senders)]
    start = threading.Barrier(n_senders + 1)

    def send(tally: Tally, mine: Sequence[bytes]) -> None:
        start.wait()
        connection: socket.socket | None = None
        for body in mine:
            began_s = time.perf_counter()
            connection = connection or socket.create_connection(("127.0.0.1", port), timeout=30)
            tally.answers[exchange(connection, body, keep=keep)] += 1
            if not keep:
                connection.close()
                connection = None
            tally.ms.append((time.perf_counter() - began_s) * 1000)

    threads = [threading.Thread(target=send, args=(tally, plan[i::n_senders])) for i, tally in enumerate(tallies)]
    for thread in threads:
        thread.start()
    start.wait()
    began_s = time.perf_counter()
    for thread in threads:
        thread.join()
    return tallies, time.perf_counter() - began_s


def exchange(connection: socket.socket, body: bytes, *, keep: bool) -> str:
    """Send one delivery over a plain socket (a client library would take the cores the service needs): "202 accepted"."""
    head = (
        f"POST /hooks/labelstudio HTTP/1.1\r\nHost: localhost\r\nX-Refurbish-Secret: {SECRET}\r\n"
        "Content-Type: application/json\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    answer = b""
    while b"}" not in answer:
        more = connection.recv(4096)
        if not more:
            return "closed"
        answer += more
    return f"{answer[9:12].decode()} {json.loads(answer[answer.index(b'{') :]).get('status', 'refused')}"


def check(database_url: str, distinct: Sequence[bytes], answers: Counter[str], n_sent: int) -> list[str]:
    """What is wrong: nothing, if each distinct body is stored once with one job and every answer was 2xx."""
    db = Database(database_url)
    with db.read() as session:
        n_rows = session.execute(select(func.count()).select_from(Inbox)).scalar_one()
        n_shas = session.execute(select(func.count(func.distinct(Inbox.sha256)))).scalar_one()
        n_jobs = session.execute(select(func.count()).select_from(JobRow).where(JobRow.kind == "ingest")).scalar_one()
    db.dispose()
    wanted = {"rows": len(distinct), "distinct rows": len(distinct), "jobs": len(distinct), "accepted": len(distinct)}
    found = {"rows": n_rows, "distinct rows": n_shas, "jobs": n_jobs, "accepted": answers["202 accepted"]}
    wrong = [f"{found[name]} {name}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if answers["202 accepted"] + answers["202 duplicate"] != n_sent:
        wrong.append(f"answers were {dict(answers)}")
    return wrong


def measure(service: Served, *, n: int, n_senders: int, keep: bool, seed: int) -> dict[str, object]:
    """One measurement against a running service with an empty inbox."""
    rng = random.Random(seed)
    distinct = bodies(n, rng)
    plan = distinct + rng.sample(distinct, int(n * DUPLICATE_SHARE))
    rng.shuffle(plan)
    tallies, seconds = send_all(service.port, plan, n_senders, keep=keep)
    ms = np.concatenate([tally.ms for tally in tallies])
    answers = sum((tally.answers for tally in tallies), Counter())
    return {
        "database": service.kind,
        "deliveries": len(plan),
        "senders": n_senders,
        "connections": "kept" if keep else "new",
        "deliveries_per_s": round(len(plan) / seconds, 1),
        "p50_ms": round(float(np.percentile(ms, 50)), 1),
        "p99_ms": round(float(np.percentile(ms, 99)), 1),
        "max_ms": round(float(ms.max()), 1),
        "wrong": check(service.database_url, distinct, answers, len(plan)),
    }


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """An empty database of this kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'refurbish.db'}"
    else:
        with postgres() as url:
            yield url


def main() -> None:
    """Measure and print one line for each database; exit code 1 if a delivery was lost or stored twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--deliveries", type=int, default=3000)
    parser.add_argument("--senders", type=int, default=32)
    parser.add_argument("--connections", choices=("kept", "new"), default="kept")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    kinds = ("sqlite", "postgresql") if wanted.database == "both" else (wanted.database,)
    is_wrong = False
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="receiver-") as name, database(kind, Path(name)) as url:
            with served(Path(name), url) as service:
                found = measure(
                    service, n=wanted.deliveries, n_senders=wanted.senders, keep=wanted.connections == "kept", seed=wanted.seed
                )
            met = found["deliveries_per_s"] >= RATE_TARGET and found["p99_ms"] < ANSWER_LIMIT_MS  # type: ignore[operator]
            print(json.dumps(found | {"target_met": met}), flush=True)
            is_wrong |= bool(found["wrong"])
    raise SystemExit(int(is_wrong))


if __name__ == "__main__":
    main()
