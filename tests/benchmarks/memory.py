"""Peak memory of what goes over all listings: it must not grow with their number.

    python -m tests.benchmarks.memory                  # 1,000,000 listings
    python -m tests.benchmarks.memory --n 100000

Each is a process of its own over a database filled by `tests.benchmarks.pages` (a tenth decided, all ranked), ingest over a
generated file; what is shown is the largest resident size the kernel saw. The cap is `CAP_MIB`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.console import table
from curation.release.export import FORMATS
from curation.store import schema
from curation.store.db import Database
from tests.benchmarks import ingest, pages

CAP_MIB = 512.0
"""What each may take, whatever the number of listings."""

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
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REFURBISH_")}
    environment = kept | {"REFURBISH_HOME": str(home), "REFURBISH_DATABASE_URL": url}
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, sys.executable, *command], env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{name} failed with {done.returncode}")
    return Peak(name, int(done.stdout.split()[-1]) / 1024, time.monotonic() - began_s)


def refurbish(*arguments: object) -> list[str]:
    return ["-m", "curation.cli", *map(str, arguments)]


def over_catalog(folder: Path, n: int) -> list[Peak]:
    """Snapshot, exports and the ranking of `n` listings."""
    home, url = folder / "home", f"sqlite:///{folder / 'refurbish.db'}"
    db = Database(url)
    schema.upgrade(db)
    pages.fill(db, n, doubted_every=1)
    db.dispose()
    exports = {f"export {fmt}": refurbish("export", "--out", folder / fmt, "--format", fmt) for fmt in FORMATS}
    ranked = {f"suspects to {fmt}": refurbish("suspects", "--out", folder / f"ranked.{fmt}") for fmt in ("csv", "parquet")}
    steps = {"snapshot": ["-c", FREEZE]} | exports | ranked
    return [peak(name, command, home, url) for name, command in steps.items()]


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


def measure(n: int) -> list[Peak]:
    """All of them over `n` listings."""
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        found = [of_ingest(Path(name) / "ingest", n)]
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        return [*found, *over_catalog(Path(name), n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="listings")
    n = parser.parse_args().n
    found = measure(n)
    rows = [(one.name, f"{one.mib:.0f}", f"{one.seconds:.0f}", "kept" if one.mib <= CAP_MIB else "MISSED") for one in found]
    print(table(rows, (f"{n:,} listings", "peak, MiB", "s", f"cap {CAP_MIB:.0f} MiB")))
    return int(any(one.mib > CAP_MIB for one in found))


if __name__ == "__main__":
    sys.exit(main())
