"""How fast and how lean catalog intake is.

``python -m tests.benchmarks.ingest photos`` : listings with two photos each, per second (target 300 on 2 cores)
``python -m tests.benchmarks.ingest rows``   : 1 million rows without photos: rows per second, peak memory (target 1 GiB)

Each runs `refurbish ingest` as a process of its own, on a catalog generated in a temporary folder, and
prints one JSON object. `--database-url` measures another database than SQLite.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests import builders

WORDS = "oak pine steel garden kitchen lamp table chair phone bike coat boots vintage new old small large black white red"
COLUMNS = ["id", "seller", "title", "description", "price", "currency", "category", "photos"]
PART_ROWS = 50_000


def rows(n: int, n_photos: int, rng: np.random.Generator) -> Iterator[list[str]]:
    """Listings with texts of 4 and about 30 words, 5,000 sellers, 100 categories."""
    names = WORDS.split()
    for start in range(0, n, PART_ROWS):
        part = min(PART_ROWS, n - start)
        words, numbers = rng.integers(0, len(names), (part, 34)), rng.integers(0, 10**6, (part, 3))
        for i in range(part):
            said = [names[j] for j in words[i]]
            category = f"Root {numbers[i, 0] % 10} / Leaf {numbers[i, 0] % 100}"
            photos = "|".join(f"{start + i}-{k}.jpg" for k in range(n_photos))
            title = f"{' '.join(said[:4])} {numbers[i, 1]}"
            price = f"{numbers[i, 2] / 100:.2f}"
            yield [f"r{start + i}", f"s{numbers[i, 1] % 5_000}", title, " ".join(said[4:]), price, "GBP", category, photos]


def write(path: Path, n: int, n_photos: int, rng: np.random.Generator) -> None:
    """A catalog file of n rows, CSV or Parquet by its ending."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows(n, n_photos, rng))
        return
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    found, done = rows(n, n_photos, rng), 0
    with pq.ParquetWriter(path, schema) as writer:
        while done < n:
            part = [next(found) for _ in range(min(PART_ROWS, n - done))]
            writer.write_table(pa.table(dict(zip(COLUMNS, zip(*part, strict=True), strict=True)), schema))
            done += len(part)


def draw(folder: Path, n: int, side_px: int) -> None:
    """Two JPEG files a listing, all different."""
    folder.mkdir()
    for i in range(n):
        for k in range(2):
            data = builders.encoded(builders.picture(2 * i + k, (side_px, side_px * 3 // 4)), quality=80)
            (folder / f"{i}-{k}.jpg").write_bytes(data)


@dataclass(frozen=True)
class Measured:
    """One command: its JSON, wall and processor seconds, peak resident memory."""

    said: dict[str, Any]
    wall_s: float
    cpu_s: float
    peak_mib: float


def refurbish(home: Path, database_url: str, *args: str) -> Measured:
    """One command as a process of its own."""
    flags = ["--home", str(home), *(["--database-url", database_url] if database_url else [])]
    started_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "curation.cli", *flags, *args, "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"refurbish {' '.join(args)} failed with {process.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Measured(json.loads(said), time.perf_counter() - started_s, cpu_s, usage.ru_maxrss / 1024)


def main() -> None:
    """Generate, ingest twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["photos", "rows"])
    parser.add_argument("--n", type=int, help="listings (default 2,000 with photos, 1,000,000 without)")
    parser.add_argument("--side-px", type=int, default=640, help="long side of the photos in the catalog")
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--database-url", default="", help="default: SQLite in the temporary folder")
    args = parser.parse_args()
    n = args.n or (2_000 if args.what == "photos" else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"listings.{args.format}"
        write(path, n, 2 if args.what == "photos" else 0, np.random.default_rng(1))
        if args.what == "photos":
            draw(folder / "images", n, args.side_px)
        else:
            (folder / "images").mkdir()
        refurbish(folder / "home", args.database_url, "db", "upgrade")
        first, again = (refurbish(folder / "home", args.database_url, "ingest", str(path)) for _ in range(2))
        assert first.said["n_new"] == again.said["n_same"] == n, "every listing came in once and is the same the second time"
        found = {
            "n_listings": n,
            "n_photos": first.said["n_photos"],
            "file_mib": round(path.stat().st_size / 2**20, 1),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "listings_per_s": round(n / first.wall_s),
            "listings_per_cpu_s": round(n / first.cpu_s),
            "peak_mib": round(first.peak_mib),
            "again_listings_per_s": round(n / again.wall_s),
            "again_listings_per_cpu_s": round(n / again.cpu_s),
            "again_peak_mib": round(again.peak_mib),
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
