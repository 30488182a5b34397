"""Values that cost time to count, kept by key."""

import threading
import time

import pytest

from curation.errors import DatabaseError
from webhooks import kept
from webhooks.kept import Keeper


@pytest.fixture(autouse=True)
def everything_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any count is one to wait for, and may be renewed at once."""
    monkeypatch.setattr(kept, "QUICK_S", -1.0)
    monkeypatch.setattr(kept, "REST", 0)


def test_a_slow_count_is_shown_as_it_was_and_renewed_behind() -> None:
    """The first answer waits; later ones get the old value at once, and the new one when it is there."""
    keeper, gate = Keeper(), threading.Event()
    assert keeper.get("n", lambda: 1).value == 1

    def slow() -> int:
        gate.wait()
        return 2

    found = [keeper.get("n", slow, age_s=0.0) for _ in range(3)]
    assert [(one.value, one.is_current) for one in found] == [(1, False)] * 3
    gate.set()
    keeper.close()
    assert keeper.get("n", lambda: 3).value == 2


def test_another_version_is_another_value() -> None:
    """What changed is counted anew, however young the old value is."""
    keeper = Keeper()
    assert keeper.get("n", lambda: 1, version="a").value == 1 and keeper.get("n", lambda: 2, version="a").value == 1
    keeper.get("n", lambda: 2, version="b")
    keeper.close()
    assert keeper.get("n", lambda: 3, version="b").value == 2


def test_many_who_ask_at_once_cost_one_count() -> None:
    """A crowd waits for the same first answer."""
    keeper, calls, found = Keeper(), [], []

    def ask() -> int:
        calls.append(1)
        time.sleep(0.05)
        return len(calls)

    crowd = [threading.Thread(target=lambda: found.append(keeper.get("n", ask).value)) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert found == [1] * 8


def test_a_count_may_begin_before_anybody_asks() -> None:
    """Whoever comes first gets that count."""
    keeper = Keeper()
    keeper.ahead("n", lambda: 1)
    keeper.close()
    assert keeper.get("n", lambda: 2).value == 1


def test_an_error_is_told_and_not_kept() -> None:
    """The next one asks again."""

    def fail() -> int:
        raise DatabaseError("gone")

    keeper = Keeper()
    with pytest.raises(DatabaseError, match="gone"):
        keeper.get("n", fail)
    assert keeper.get("n", lambda: 1).value == 1


def test_the_oldest_value_makes_room() -> None:
    """A page with many filters cannot fill the memory."""
    keeper = Keeper()
    for at in range(kept.MAX_KEPT + 1):
        keeper.get(at, lambda at=at: at)  # type: ignore[misc]
    assert keeper.get(0, lambda: "anew").value == "anew"
