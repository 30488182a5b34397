"""Ten busy days at once, for some seconds: the same that `tests.benchmarks.trust_load` does for ten minutes."""

import pytest

from tests.benchmarks.trust_load import Size, load


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_pages_answer_at_ten_times_the_rate() -> None:
    """Every delivery is answered 202, is applied once, and no page or answer of the API fails meanwhile (fault 22)."""
    found = dict(load(Size(minutes=0.2, n_listings=2000, n_bulk=1000, n_memory=0)))
    assert found["deliveries"] == "300 in 0.2 minutes, answered 202 accepted 300"
    assert found["lost or applied twice"] == "0"
    assert [words for name, words in found.items() if "pages p95" in name and not words.endswith("failed 0")] == []
