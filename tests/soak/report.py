"""What a soak saw, in words."""

from collections import Counter

from tests.soak.soak import Soaked

MAX_SHOWN = 40


def rows(found: Soaked) -> list[tuple[str, str]]:
    """One line each: (what, figure)."""
    same = found.comparison
    hooks = ("sent", "dropped", "refused", "delayed", "late", "copies", "reordered", "stalled", "undelivered", "delivered")
    words = {"copies": "duplicates sent", "late": "held 15 to 60 s", "undelivered": "while nobody listened"}
    return [
        ("minutes", f"{found.minutes:.1f}"),
        ("operations", _counted(found.done)),
        ("refused by Label Studio, mostly because somebody was quicker", _counted(found.refused)),
        ("webhooks", ", ".join(f"{words.get(name, name)} {found.hooks[name]:,}" for name in hooks)),
        ("deliveries by what became of them", ", ".join(f"{name} {n:,}" for name, n in sorted(found.received.items()))),
        ("kill -9", ", ".join(f"{name} {n}" for name, n in sorted(found.kills.items())) or "none"),
        ("webhook switched off, and noticed", "yes" if found.noticed_off else "no"),
        ("missed by webhooks, healed by reconciliation", f"{found.n_missed:,}"),
        ("found by the passes after the end", ", ".join(map(str, found.passes))),
        ("jobs given up", "; ".join([str(len(found.dead_jobs)), *sorted(set(found.dead_jobs))])),
        ("compared", f"{same.n_annotations:,} annotations of {same.n_listings:,} listings, {same.n_labels:,} labels"),
        ("lost", str(same.n_lost)),
        ("applied twice", str(same.n_twice)),
        ("equal to Label Studio's export", "yes" if found.is_equal else f"NO, {len(same.differences)} differences"),
    ]


def _counted(counts: Counter[str]) -> str:
    return f"{counts.total():,}: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()) if counts else "0"


def differences(found: Soaked) -> list[str]:
    """The first of them, and how many more there are."""
    all_of_them = found.comparison.differences
    more = [f"… and {len(all_of_them) - MAX_SHOWN} more"] if len(all_of_them) > MAX_SHOWN else []
    return [*all_of_them[:MAX_SHOWN], *more]
