"""What goes over all listings takes as much memory for three times as many of them."""

from pathlib import Path

import pytest

from tests.benchmarks import memory

N, TIMES = 25_000, 3
MAY_GROW_MIB = 24.0
"""Fifty thousand rows more, at half a kilobyte each, if all were held."""

NAMES = ("snapshot", "export csv", "export parquet", "suspects to parquet")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_number_of_listings(tmp_path: Path) -> None:
    """Ingest, snapshot, export and the ranking, each a process of its own (fault 78)."""
    small, large = ([*_peaks(tmp_path / str(n), n)] for n in (N, TIMES * N))
    grown = {one.name: round(other.mib - one.mib, 1) for one, other in zip(small, large, strict=True)}
    print(grown)
    assert max(grown.values()) < MAY_GROW_MIB, grown


def _peaks(folder: Path, n: int) -> list[memory.Peak]:
    return [memory.of_ingest(folder / "ingest", n), *memory.over_catalog(folder, n, NAMES)]
