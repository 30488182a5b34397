"""`refurbish search` as a whole: snapshot → tokens → searches from several seeds → race, with breeding → what won."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import field as field_of
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog.tokens import TokenConfig, Tokenizer, texts_of
from curation.errors import ConfigError
from curation.release import policy, registry, snapshot
from curation.release.drawing import drawing
from curation.store import violations
from curation.store.workspace import Workspace
from curation.types import Question, Split
from trainer import data
from trainer.config import TrainConfig
from trainer.detect import device_words
from trainer.evaluate import plain
from trainer.rows import SnapshotRows, load
from trainer.search.cells import Genotype
from trainer.search.config import SearchConfig, faithful
from trainer.search.examples import Examples
from trainer.search.found import Found, Progress
from trainer.search.loop import search
from trainer.search.offspring import BRED, Offspring
from trainer.search.proxy import Proxy, proxy
from trainer.search.race import POOL_AND_SKIP, TEXT_CNN, Entry, Race, RaceConfig, field, race
from trainer.search.supernet import Space
from trainer.sequence import LENGTHS

KIND = "search"
FOUND, RANDOM = "found", "random"
"""Kinds of designs in a race, beside the two that have names of their own."""

GENOTYPE_SUFFIX = ".genotype.json"
MIN_STEPS = 8
"""Of an epoch; with few rows the batches are smaller."""

SEARCH_SHARE = 0.6
"""Of the budget; the rest is the race's."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to search, and for how long."""

    question: Question | None = None  #: None = the violations where there are enough, else the category
    mode: str = "sentencepiece"  #: of the tokens, or ``hashed``
    n_seeds: int = 3  #: differentiable searches whose cells are in the race; 0 = none
    n_random: int = 9  #: random cells in the race
    n_bred: int = 4  #: cells bred from the best of the last rung, which they join; 0 = none
    epochs: int = 15
    is_darts: bool = False  #: first-order DARTS as published, instead of partial channels
    race_steps: int = 100  #: of the first rung
    n_rungs: int = 2  #: of the race; each is three times as long as the one before
    budget_s: float = math.inf  #: of wall clock, for searches and race together
    seed: int = 1

    def __post_init__(self) -> None:
        least = {"n_seeds": 0, "n_random": 0, "n_bred": 0, "epochs": 1, "race_steps": 1, "n_rungs": 1}
        bad = [name for name, value in least.items() if getattr(self, name) < value]
        bad += [] if self.budget_s > 0 else ["budget_s"]
        if bad:
            shown = ", ".join(f"{name}={getattr(self, name)}" for name in bad)
            raise ConfigError(f"no search can be run with {shown}; counts are at least {least}, the budget above 0")

    @property
    def tokens(self) -> TokenConfig:
        """What the sequences look like."""
        return TokenConfig(mode=self.mode, **LENGTHS)

    def config(self, seed: int) -> tuple[SearchConfig, Space]:
        """Of the search with this seed."""
        return faithful(self.epochs, seed) if self.is_darts else (SearchConfig(seed=seed, epochs=self.epochs), Space())


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far it is."""

    searching: Callable[[int, Progress], None] = lambda seed, progress: None
    racing: Callable[[Entry], None] = lambda entry: None


@dataclass(frozen=True, slots=True)
class Work:
    """Where and how one search is run."""

    workspace: Workspace
    plan: Plan
    device: torch.device
    folder: Path | None = None  #: keeps states to go on from
    listener: Listener = Listener()
    began_s: float = field_of(default_factory=time.monotonic)

    def left_s(self, share: float = 1.0) -> float:
        """Seconds of this share of the budget that are left."""
        return max(0.0, self.plan.budget_s * share - (time.monotonic() - self.began_s))


def run(work: Work, *, now: datetime) -> dict[str, Any]:
    """Search and race on a snapshot of now; the report, as stored with the run. Raises InputError where there is too little."""
    workspace, plan = work.workspace, work.plan
    frozen = snapshot.create(workspace, now=now)
    with workspace.db.write() as session:
        run_id = registry.start_run(
            session,
            kind=KIND,
            snapshot_id=frozen.id,
            trigger="architecture search",
            config={"search": plain(asdict(plan)), "tokens": plan.tokens.to_json()},
            device=device_words(work.device, TrainConfig()),
            n_corrections=policy.corrections(session).n_listings,
            now=now,
        )
    try:
        found = _found(work, load(workspace, snapshot.load(workspace, frozen.sha256)))
    except BaseException as error:  # Ctrl-C too: no run stays as running
        _finish(work, run_id, "failed", {"error": f"{type(error).__name__}: {error}"})
        raise
    report: dict[str, Any] = plain({"run_id": run_id, "snapshot": frozen.sha256, **found})
    _finish(work, run_id, "finished", report)
    return report


def _finish(work: Work, run_id: int, state: str, report: Mapping[str, Any]) -> None:
    n_seconds, workspace = time.monotonic() - work.began_s, work.workspace
    with workspace.db.write() as session:
        now = workspace.db.now(session)
        registry.finish_run(session, run_id, state=state, report=report, n_seconds=n_seconds, now=now)


def _found(work: Work, rows: SnapshotRows) -> dict[str, Any]:
    plan = work.plan
    with work.workspace.db.read() as session:
        policy = violations.names(session, work.workspace.settings)
    wanted = data.targets(rows.category, rows.violation, policy, TrainConfig())
    splits, rng = (rows.of(Split.TRAIN), rows.of(Split.VALIDATION)), np.random.default_rng(plan.seed)
    asked = proxy(wanted, *splits, rng, question=plan.question)
    tokenizer = _tokenizer(rows, asked, plan)
    train, validation = (Part.of(rows, asked, chosen, tokenizer) for chosen in (asked.train, asked.validation))
    searched = [_search(work, train, plan.seed + at, 1 / (plan.n_seeds - at)) for at in range(plan.n_seeds)]
    designs = field([one.genotype for one in searched], rng, n_random=plan.n_random)
    raced = race(
        designs,
        train.examples,
        validation.examples,
        n_ids=train.n_ids,
        n_classes=train.n_classes,
        config=RaceConfig(seed=plan.seed, steps=plan.race_steps, n_rungs=plan.n_rungs),
        device=work.device,
        budget_s=work.left_s(),
        more=Offspring(dict(designs), rng, plan.n_bred),
        progress=work.listener.racing,
    )
    sizes = {"n_train": len(train.refs), "n_validation": len(validation.refs), "n_ids": train.n_ids}
    seeds = [_about(one, plan.seed + at) for at, one in enumerate(searched)]
    about = {"question": asked.question.value, "balance": asked.balance(), "searches": seeds}
    return {**about, **sizes, **_outcome(work.workspace, raced)}


def _tokenizer(rows: SnapshotRows, asked: Proxy, plan: Plan) -> Tokenizer:
    """Its vocabulary is that of the training rows."""
    texts = (text for row in asked.train for text in texts_of(rows.listings[row], plan.tokens))
    return Tokenizer.fit(texts, plan.tokens)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows as search and race want them."""

    ids: NDArray[np.int32]
    labels: NDArray[Any]
    refs: list[str]
    n_ids: int
    n_classes: int

    @classmethod
    def of(cls, rows: SnapshotRows, asked: Proxy, chosen: data.Rows, tokenizer: Tokenizer) -> "Part":
        """These rows of the snapshot."""
        ids = tokenizer.transform([rows.listings[row] for row in chosen]).ids
        return cls(ids, asked.labels[chosen], [rows.refs[row] for row in chosen], tokenizer.n_ids, len(asked.names))

    @property
    def examples(self) -> Examples:
        """The same as tensors."""
        return Examples.of(self.ids, self.labels, n_ids=self.n_ids, n_classes=self.n_classes)


def _search(work: Work, train: Part, seed: int, share: float) -> Found:
    config, space = work.plan.config(seed)
    if work.folder:
        work.folder.mkdir(parents=True, exist_ok=True)
    return search(
        train.ids,
        train.labels,
        n_ids=train.n_ids,
        n_classes=train.n_classes,
        config=replace(config, batch=max(2, min(config.batch, len(train.ids) // (2 * MIN_STEPS)))),
        space=space,
        device=work.device,
        refs=train.refs,
        state=work.folder and work.folder / f"seed-{seed}.safetensors",
        budget_s=work.left_s(SEARCH_SHARE) * share,
        progress=lambda progress: work.listener.searching(seed, progress),
    )


def _about(found: Found, seed: int) -> dict[str, Any]:
    shown = {
        "seed": seed,
        "epoch": found.epoch,
        "n_steps": found.n_steps,
        "ended_by": found.ended_by,
        "n_seconds": found.n_seconds,
    }
    return {**shown, "parameter_free": found.genotype.parameter_free, "alarm": found.genotype.alarm}


def _outcome(workspace: Workspace, raced: Race) -> dict[str, Any]:
    """Who won, in words and as a file, and all rungs."""
    cells = raced.design if isinstance(raced.design, Genotype) else None
    return {
        "winner": raced.winner,
        "words": words(raced),
        "alarm": cells.alarm if cells else "",
        "genotype_sha256": cells and workspace.files.put(cells.to_json().encode(), GENOTYPE_SUFFIX),
        "genotype": cells and json.loads(cells.to_json()),
        "race": [asdict(entry) for entry in raced.table],
        "is_complete": raced.is_complete,
    }


def words(raced: Race) -> str:
    """How the best of each kind did in the last rung that each ran in."""
    last = {entry.name: entry for entry in raced.table}
    best: dict[str, Entry] = {}
    for entry in last.values():
        kind = kind_of(entry.name)
        if kind not in best or (entry.rung, entry.score) > (best[kind].rung, best[kind].score):
            best[kind] = entry
    shown = ", ".join(f"{kind} {entry.score:.3f} (rung {entry.rung})" for kind, entry in best.items())
    verdict = {
        FOUND: "the searched cells won",
        BRED: "cells bred from the best of the race won",
        RANDOM: "random cells won: the search did not beat chance on this data",
        POOL_AND_SKIP: "pooling and skips won: word order does not matter in this data",
        TEXT_CNN: "the TextCNN won: use it, cells do not pay on this data",
    }[kind_of(raced.winner)]
    ending = "" if raced.is_complete else "; the budget ended the race early"
    return f"{verdict}; best of each: {shown}{ending}"


def kind_of(name: str) -> str:
    """Of a design in the race: searched, random, pool and skip, or TextCNN."""
    return name if name in (POOL_AND_SKIP, TEXT_CNN) else name.rpartition(" ")[0]


def picture(report: Mapping[str, Any]) -> str | None:
    """The winner's cells as SVG, None where it has none."""
    return drawing(Genotype.from_json(json.dumps(report["genotype"]))) if report["genotype"] else None


def text(report: Mapping[str, Any]) -> str | None:
    """The winner's cells as the JSON that `Genotype.from_json` reads, None where it has none."""
    return Genotype.from_json(json.dumps(report["genotype"])).to_json() if report["genotype"] else None
