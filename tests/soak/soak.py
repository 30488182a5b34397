"""One soak from the first push to the comparison."""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select, update

from curation.labelstudio import apply, hook, project, push, reconcile
from curation.labelstudio.client import Client
from curation.labelstudio.payloads import ACTIONS
from curation.store import inbox, jobs
from curation.store.tables import JobRow, ReviewItem
from curation.store.workspace import get_state, utc_now
from tests.labelstudio_server import free_port, running
from tests.live.world import LEAVES, World, world
from tests.serving import postgres
from tests.soak.compare import Comparison, compare
from tests.soak.people import Board, Hands, Scripted
from tests.soak.processes import Killer, Processes
from tests.soak.proxy import Hostility, Proxy

LOOK_EVERY_S = 3.0
ASK_EVERY_S = 12.0
N_ASKED = 8
MAX_PASSES = 10
OFF = "it is switched off"
INBOX_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Options:
    """`n`: listings that are asked about at the start."""

    minutes: float = 10.0
    seed: int = 1
    moderators: int = 5
    database: str = "sqlite"
    n: int = 150
    hostility: Hostility = field(default_factory=Hostility)


@dataclass(frozen=True)
class Soaked:
    """What one soak saw. `passes`: what each reconciliation after the end of all traffic still found."""

    minutes: float
    done: Counter[str]
    refused: Counter[str]
    hooks: Counter[str]
    kills: Counter[str]
    received: dict[str, int]
    n_missed: int
    hook_was_off: bool
    noticed_off: bool
    passes: tuple[int, ...]
    dead_jobs: tuple[str, ...]
    comparison: Comparison

    @property
    def is_equal(self) -> bool:
        return not self.comparison.differences


def soak(options: Options, folder: Path) -> Soaked:
    """Everything in `folder`, which must be empty; nothing is left running."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres()) if options.database == "postgresql" else f"sqlite:///{folder / 'refurbish.db'}"
        port = free_port()
        proxy = stack.enter_context(Proxy(port, random.Random(f"{options.seed}/proxy"), options.hostility))
        server = stack.enter_context(running(folder / "labelstudio"))
        settings = {"url": url, "port": port, "public_url": proxy.url}
        here = stack.enter_context(world(server, folder, options.n, **settings))
        refs = [f"r{i}" for i in range(options.n)]
        here.project_id = project.setup(here.workspace, utc_now(), suggests=False).project_id
        here.suggest(refs, LEAVES[1])
        here.ask(*refs)
        push.push(here.workspace, now=utc_now())
        processes = stack.enter_context(Processes(here.workspace.settings, folder))
        return _Soak(options, folder, here, proxy, processes).run()


class _Soak:
    """A soak under way."""

    def __init__(self, options: Options, folder: Path, here: World, proxy: Proxy, processes: Processes) -> None:
        self.options, self.folder, self.here, self.proxy, self.processes = options, folder, here, proxy, processes
        self.rng = random.Random(f"{options.seed}/engineer")
        self.hook_was_off = self.noticed_off = False

    def run(self) -> Soaked:
        began_s = time.monotonic()
        people = self._traffic()
        self.proxy.calm_down()
        self._empty_inbox()
        for name in ("worker", "server"):
            self.processes.stop(name)
        passes = tuple(self._heal())
        comparison = compare(self.here, self.folder, self.proxy.accepted)
        with self.here.workspace.db.read() as session:
            return Soaked(
                minutes=(time.monotonic() - began_s) / 60,
                done=sum((one.done for one in people), Counter()),
                refused=sum((one.refused for one in people), Counter()),
                hooks=self.proxy.counts,
                kills=self.processes.kills,
                received=inbox.count_by_state(session),
                n_missed=apply.count_missed(session),
                hook_was_off=self.hook_was_off,
                noticed_off=self.noticed_off,
                passes=passes,
                dead_jobs=tuple(f"{job.kind}: {job.error}" for job in jobs.newest(session, state="dead", limit=100)),
                comparison=comparison,
            )

    def _traffic(self) -> Sequence[Scripted]:
        """Moderators, kills and the engineer's questions, for as long as was asked for."""
        stop, board = threading.Event(), Board(self.here.api, self.here.project_id)
        board.refresh()
        killer = Killer(self.processes, random.Random(f"{self.options.seed}/killer"), stop)
        people = [self._moderator(number, board, stop) for number in range(self.options.moderators)]
        for thread in (killer, *people):
            thread.start()
        try:
            self._look_after(board)
        finally:
            stop.set()
            for thread in (killer, *people):
                thread.join()
            for one in people:
                one.hands.person.close()
        failures = [one.failure for one in people if one.failure is not None]
        if failures:
            raise failures[0]
        return people

    def _moderator(self, number: int, board: Board, stop: threading.Event) -> Scripted:
        person = self.here.server.moderator(f"moderator{number}@example.com")
        return Scripted(Hands(person, board, LEAVES, random.Random(f"{self.options.seed}/{number}")), stop)

    def _look_after(self, board: Board) -> None:
        """Until the time is up: tell everybody which tasks there are, ask again, and switch the webhook off for a while."""
        began_s, seconds, asked_s = time.monotonic(), 60 * self.options.minutes, 0.0
        while (past_s := time.monotonic() - began_s) < seconds:
            board.refresh()
            if past_s - asked_s > ASK_EVERY_S:
                asked_s = past_s
                self._ask_again()
            self._switch(past_s / seconds)
            time.sleep(LOOK_EVERY_S)

    def _ask_again(self) -> None:
        """Choose some listings anew, also such as were decided or lost their task; a killed push is asked for again too."""
        with self.here.workspace.db.write() as session:
            ids = sorted(session.execute(select(ReviewItem.listing_id).distinct()).scalars())
            chosen = self.rng.sample(ids, min(N_ASKED, len(ids)))
            asked = update(ReviewItem).where(ReviewItem.listing_id.in_(chosen))
            session.execute(asked.values(state="waiting", pushed_at=None, decided_at=None))
            jobs.enqueue(session, "push", {}, key="push", now=utc_now())

    def _switch(self, share: float) -> None:
        """Half-way the webhook is switched off, and mended as soon as reconciliation has said so."""
        if self.hook_was_off:
            with self.here.workspace.db.read() as session:
                told = (get_state(session, reconcile.DRIFT) or {}).get("hook_faults", [])
            if not self.noticed_off and OFF in told:
                self._mend()
        elif share >= 0.5:
            (found,) = [one for one in self.here.hooks() if one["is_active"]]
            body = {"is_active": False, "actions": list(ACTIONS)}
            self.here.api.patch(f"/api/webhooks/{found['id']}/", json=body).raise_for_status()
            self.hook_was_off = True

    def _mend(self) -> None:
        self.noticed_off = True
        with Client.of(self.here.workspace.settings) as client:
            hook.ensure(client, self.here.project_id, self.here.workspace.settings)

    def _empty_inbox(self) -> None:
        """Wait until every delivery was applied; leases of killed workers run out meanwhile."""
        deadline_s = time.monotonic() + INBOX_PATIENCE_S
        while self._n_pending():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{self._n_pending()} deliveries still wait after {INBOX_PATIENCE_S:.0f} s; see worker.log")
            time.sleep(0.5)

    def _n_pending(self) -> int:
        with self.here.workspace.db.read() as session:
            pending = select(JobRow.id).where(JobRow.kind == "ingest", JobRow.state.in_(("todo", "doing")))
            return len(session.execute(pending).all())

    def _heal(self) -> Iterator[int]:
        """Reconcile as the timer does, until a pass finds nothing; what each pass found."""
        for _ in range(MAX_PASSES):
            found = reconcile.reconcile(self.here.workspace, utc_now(), sweep=False)
            self.noticed_off |= OFF in found.hook_faults
            yield found.n_missed
            if not found.n_missed:
                return
        raise RuntimeError(f"reconciliation still finds something after {MAX_PASSES} passes without any traffic")


@contextmanager
def temporary(keep: Path | None) -> Iterator[Path]:
    """A folder for one soak; `keep` is made and stays."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield Path(name)
