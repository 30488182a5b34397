"""Values kept in a process: by version, by age, and counted behind the answer where that takes long."""

import threading
import time

import pytest

from webhooks import kept
from webhooks.kept import Keeper


def test_a_value_is_counted_once_for_a_version() -> None:
    """Another version, another key or too great an age counts it anew."""
    keeper, counted = Keeper(), iter(range(10))

    def get(key: str = "a", version: int = 1, age_s: float = 60.0) -> int:
        return keeper.get(key, lambda: next(counted), version=version, age_s=age_s).value

    assert [get(), get(), get(version=2), get("b"), get(version=2), get(version=2, age_s=0.0)] == [0, 0, 1, 2, 1, 3]


def test_an_error_is_not_kept() -> None:
    """The next caller asks again."""
    keeper = Keeper()
    with pytest.raises(ZeroDivisionError):
        keeper.get("a", lambda: 1 // 0)
    assert keeper.get("a", lambda: 5).value == 5


def test_what_takes_long_is_counted_behind_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old value is shown, and said to be old, until the new one is there; an error leaves the old one."""
    monkeypatch.setattr(kept, "QUICK_S", -1.0)
    keeper, go = Keeper(), threading.Event()
    keeper.get("a", lambda: "old", version=1)
    shown = keeper.get("a", lambda: go.wait(10) and "new", version=2)
    assert (shown.value, shown.is_current) == ("old", False)
    assert keeper.get("a", lambda: 1 // 0, version=2).value == "old"
    go.set()
    assert _until(lambda: keeper.get("a", lambda: "new", version=2).value == "new")


def test_only_so_many_are_kept() -> None:
    """The one asked for longest ago goes first."""
    keeper, asked = Keeper(), []

    def get(key: int) -> int:
        return keeper.get(key, lambda: asked.append(key) or key).value  # type: ignore[func-returns-value]

    for key in (*range(kept.MAX_KEPT), 0, kept.MAX_KEPT, 0, 1):
        assert get(key) == key
    assert asked == [*range(kept.MAX_KEPT + 1), 1]


def _until(is_so: object) -> bool:
    ends_s = time.monotonic() + 10
    while time.monotonic() < ends_s:
        if is_so():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False
