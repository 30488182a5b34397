"""Who decides otherwise than everybody else: named where it is no chance, and only then."""

import numpy as np

from curation.quality.deciders import MIN_DECIDED, outliers


def said(shares: dict[str | None, tuple[int, int]]) -> tuple[list[str | None], np.ndarray]:
    """Name → agreed of decided."""
    names = [name for name, (_, n) in shares.items() for _ in range(n)]
    return names, np.array([at < agreed for agreed, n in shares.values() for at in range(n)], bool)


def test_who_flips_everything_is_named() -> None:
    """With the figures, beside people who are right nine times in ten (fault 40)."""
    (found,) = outliers(*said({"anna": (45, 50), "ben": (27, 30), "mallory": (1, 20), None: (3, 9)}))
    assert (found.name, found.n_agreed, found.n, found.others_agreed, found.others_n) == ("mallory", 1, 20, 72, 80)
    assert found.words.startswith("mallory agrees with the model on 1 of 20 listings that they decided alone, others on 72 of 80")


def test_who_decides_hard_listings_or_few_or_alone_is_not() -> None:
    """Half as many agree, nine decisions, nobody to compare with, nothing decided."""
    assert not outliers(*said({"anna": (90, 100), "expert": (50, 100)}))
    assert not outliers(*said({"anna": (90, 100), "new": (0, MIN_DECIDED - 1)}))
    assert (
        not outliers(*said({"anna": (0, 100)})) and not outliers(*said({None: (0, 50)})) and not outliers([], np.zeros(0, bool))
    )


def test_equally_good_people_are_rarely_named() -> None:
    """Twenty people of thirty decisions each, two hundred times: nobody."""
    rng = np.random.default_rng(1)
    names: list[str | None] = [f"p{at % 20}" for at in range(600)]
    assert sum(len(outliers(names, rng.random(600) < 0.8)) for _ in range(200)) <= 1
