"""Estimates as pages show them, and as downloads hold them."""

from typing import Any

from curation.quality.metrics import Estimate


def interval(found: Estimate | None, unknown: str = "–") -> str:
    """``12.3% [8.8%, 17.0%]``."""
    return unknown if found is None else f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


def spread(name: str, found: Estimate | None) -> dict[str, Any]:
    """Keys of a row: the figure, both ends of its 95 % interval, how many it rests on, and all in words."""
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_n": 0, f"{name}_words": None}
    ends = {f"{name}_low": round(found.low, 6), f"{name}_high": round(found.high, 6), f"{name}_n": found.n}
    return {name: round(found.value, 6), **ends, f"{name}_words": interval(found)}


def columns(name: str, title: str) -> tuple[tuple[str, str, str], ...]:
    """Key, title and kind of the columns of a spread in a download."""
    return (
        (name, title, "share"),
        (f"{name}_low", f"{title}, low", "share"),
        (f"{name}_high", f"{title}, high", "share"),
        (f"{name}_n", f"{title}, of", "number"),
    )
