"""Peak memory of what goes over all listings: it must not grow with their number.

    python -m tests.benchmarks.memory                  # 1,000,000 listings
    python -m tests.benchmarks.memory --n 100000

Each is a process of its own over a database filled by `tests.benchmarks.pages` (a tenth decided, all ranked), ingest over a
generated file; what is shown is the largest resident size the kernel saw. The cap is `CAP_MIB`.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import text

from curation.console import table
from curation.release.export import FORMATS
from curation.store import schema
from curation.store.base import Base
from curation.store.db import Database
from tests import launch
from tests.benchmarks import ingest, pages

CAP_MIB = 512.0
"""What each may take, whatever the number of listings."""

N_FILLED = 65_000
"""Listings that are made one by one; more of them are made of these by the database itself."""

_LISTING = {"listing_id": "listing_id + :n"}
_REF = "printf('L%07d', CAST(substr({0}, 2) AS INTEGER) + :n)"
_NUMBER = "CAST(CAST({0} AS INTEGER) + :n AS TEXT)"
SHIFTED = {
    "listing": {"id": "id + :n", "ref": _REF.format("ref"), "group_key": _REF.format("group_key")},
    "label": _LISTING,
    "label_history": _LISTING,
    "suspect": {**_LISTING, "rank": "rank + :n"},
    "task": {"task_id": _NUMBER.format("task_id"), "listing_ref": _REF.format("listing_ref")},
    "annotation": {
        "source_id": _NUMBER.format("source_id"),
        "task_id": _NUMBER.format("task_id"),
        "listing_ref": _REF.format("listing_ref"),
    },
}
"""By table: what is not the same in the second half."""

LAUNCH = (
    "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
)
"""A small process in between: to a child's peak the kernel adds that of the process which started it."""

FREEZE = (
    "from curation.release import snapshot; from curation.settings import load; "
    "from curation.store.workspace import Workspace, utc_now; snapshot.create(Workspace.open(load()), now=utc_now())"
)


@dataclass(frozen=True)
class Peak:
    """One process: peak resident memory in MiB, wall seconds."""

    name: str
    mib: float
    seconds: float


def peak(name: str, command: Sequence[str], home: Path, url: str) -> Peak:
    """Run `command` to its end over this workspace."""
    environment = launch.environment(home=home, database_url=url)
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, sys.executable, *command], env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{name} failed with {done.returncode}")
    return Peak(name, int(done.stdout.split()[-1]) / 1024, time.monotonic() - began_s)


def refurbish(*arguments: object) -> list[str]:
    return ["-m", "curation.cli", *map(str, arguments)]


def over_catalog(folder: Path, n: int, names: Collection[str] | None = None) -> list[Peak]:
    """Snapshot, exports and the ranking of `n` listings, or those of them that are named."""
    home, url = folder / "home", f"sqlite:///{folder / 'refurbish.db'}"
    db = Database(url)
    schema.upgrade(db)
    fill(db, n)
    db.dispose()
    exports = {f"export {fmt}": refurbish("export", "--out", folder / fmt, "--format", fmt) for fmt in FORMATS}
    ranked = {f"suspects to {fmt}": refurbish("suspects", "--out", folder / f"ranked.{fmt}") for fmt in ("csv", "parquet")}
    steps = {"snapshot": ["-c", FREEZE]} | exports | ranked
    return [peak(name, command, home, url) for name, command in steps.items() if names is None or name in names]


def fill(db: Database, n: int) -> None:
    """`n` listings, at least: some by `pages.fill`, then all rows doubled until there are enough."""
    n_doublings = max(0, math.ceil(math.log2(n / N_FILLED)))
    n_now = math.ceil(n / 2**n_doublings)
    pages.fill(db, n_now, doubted_every=1)
    for _ in range(n_doublings):
        with db.write() as session:
            for name, shifted in SHIFTED.items():
                columns = [one.name for one in Base.metadata.tables[name].columns if one.computed is None]
                kept = [one for one in columns if one != "id" or "id" in shifted]
                values = ", ".join(shifted.get(one, one) for one in kept)
                session.execute(text(f"INSERT INTO {name} ({', '.join(kept)}) SELECT {values} FROM {name}"), {"n": n_now})
        n_now *= 2


def of_ingest(folder: Path, n: int) -> Peak:
    """`n` rows without photos from a CSV file into an empty database."""
    home, url, file = folder / "home", f"sqlite:///{folder / 'refurbish.db'}", folder / "listings.csv"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir()
    ingest.write(file, n, 0, np.random.default_rng(1))
    db = Database(url)
    schema.upgrade(db)
    db.dispose()
    return peak("ingest", refurbish("ingest", file), home, url)


def measure(n: int, *, with_ingest: bool = True) -> list[Peak]:
    """All of them over `n` listings."""
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        found = [of_ingest(Path(name) / "ingest", n)] if with_ingest else []
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        return [*found, *over_catalog(Path(name), n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="listings")
    parser.add_argument("--without-ingest", action="store_true")
    chosen = parser.parse_args()
    found = measure(chosen.n, with_ingest=not chosen.without_ingest)
    n = chosen.n
    rows = [(one.name, f"{one.mib:.0f}", f"{one.seconds:.0f}", "kept" if one.mib <= CAP_MIB else "MISSED") for one in found]
    print(table(rows, (f"{n:,} listings", "peak, MiB", "s", f"cap {CAP_MIB:.0f} MiB")))
    return int(any(one.mib > CAP_MIB for one in found))


if __name__ == "__main__":
    sys.exit(main())
