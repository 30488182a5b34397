"""The dataset card: where the listings come from, who labelled them, how sure that is, and what is missing."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from curation import __version__
from curation.quality.metrics import Estimate, share
from curation.release.rows import COLUMNS, Column, Content, Row
from curation.release.snapshot import Snapshot
from curation.types import LabelSource, Question, Split

FEW = 20
"""A category with fewer listings is named as a gap."""

SHOWN = 30
"""Rows of a table in the card; the rest is counted."""

LISTED = 1000
"""Refs of changed listings that are kept for the manifest; all of them are marked in the data."""


@dataclass(slots=True)
class Facts:
    """What the card and the manifest say, counted while the rows are written."""

    audited: Collection[str] = ()  #: refs drawn uniformly for audit
    columns: Mapping[str, Column] = field(default_factory=lambda: COLUMNS)
    n_listings: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    content: Counter[str] = field(default_factory=Counter)
    not_same: list[str] = field(default_factory=list)  #: the first refs whose content changed or is gone
    sources: dict[str, Counter[str]] = field(default_factory=lambda: {question.value: Counter() for question in Question})
    values: dict[str, Counter[str]] = field(default_factory=lambda: {question.value: Counter() for question in Question})
    pairs: dict[str, Counter[bool]] = field(default_factory=lambda: {question.value: Counter() for question in Question})
    annotators: Counter[str] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    n_recategorised: int = 0
    n_undecided: int = 0
    n_without_photo: int = 0
    n_audited: int = 0
    n_audited_wrong: int = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        self.n_listings += 1
        self.splits[row["split"]] += 1
        self.content[row["content"]] += 1
        if row["content"] != Content.SAME and len(self.not_same) < LISTED:
            self.not_same.append(row["ref"])
        self.n_without_photo += not row["photos"]
        self.n_recategorised += row["category"] != row["seller_category"]
        for question in Question:
            self._add_question(row, question.value)
        self._add_audit(row)

    def _add_question(self, row: Row, question: str) -> None:
        votes, source = row[f"{question}_votes"], row[f"{question}_source"]
        self.sources[question][source or "unlabelled"] += 1
        if row[question] is not None:
            self.values[question][row[question]] += 1
        if row[f"{question}_run"] is not None and source == LabelSource.REFURBISHED:
            self.runs[row[f"{question}_run"]] += 1
        self.annotators.update(vote["annotator"] for vote in votes)
        self.n_undecided += bool(votes) and source != LabelSource.MODERATORS
        newest = {vote["annotator"]: vote["value"] for vote in votes}
        self.pairs[question].update(first == second for first, second in combinations(newest.values(), 2))

    def _add_audit(self, row: Row) -> None:
        if row["ref"] in self.audited and row["category_source"] == LabelSource.MODERATORS and row["seller_category"] is not None:
            self.n_audited += 1
            self.n_audited_wrong += row["category"] != row["seller_category"]

    def noise(self) -> Estimate | None:
        """Estimated share of wrong seller's categories, or None without audited listings."""
        return share(self.n_audited_wrong, self.n_audited)


def text(facts: Facts, snapshot: Snapshot, *, files: Sequence[str], front_matter: str = "") -> str:
    """The card as Markdown."""
    parts = (_head(facts, snapshot), _labels(facts), _noise(facts), _people(facts), _splits(facts), _columns(facts))
    tail = (_gaps(facts), _files(files), LICENCE)
    return front_matter + "\n\n".join((*parts, *tail)) + "\n"


def front_matter(facts: Facts) -> str:
    """The YAML head that tells the Hugging Face hub and library which files are which split."""
    size = next(name for limit, name in SIZES if facts.n_listings < limit)
    splits = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in Split if facts.splits[split])
    return (
        "---\nlicense: other\npretty_name: Refurbished marketplace listings\n"
        f"size_categories:\n- {size}\ntask_categories:\n- text-classification\n- image-classification\n"
        f"configs:\n- config_name: default\n  data_files:\n{splits}---\n\n"
    )


SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"), (float("inf"), "n>10M"))

LICENCE = """## Licence

Titles, descriptions and photos belong to the sellers who wrote and took them; this export grants no right to them. Check
the marketplace's terms and the law that applies to you before you share it. Annotators appear under their Label Studio ids."""


def _head(facts: Facts, snapshot: Snapshot) -> str:
    return (
        f"# Marketplace listings, labels refurbished\n\n{facts.n_listings:,} listings of a second-hand marketplace with two "
        "labels each: `category` (one leaf of the taxonomy) and `violation` (`none`, or the policy's categories that apply, "
        "joined by `|`). The sellers' labels were checked by a model, and by moderators where they were doubted.\n\n"
        f"Snapshot `{snapshot.sha256}`, taken {snapshot.created_at:%Y-%m-%d %H:%M} UTC, written by Refurbish {__version__}."
    )


def _labels(facts: Facts) -> str:
    sources = [*LabelSource, "unlabelled"]
    rows = [(source, *(f"{facts.sources[question.value][source]:,}" for question in Question)) for source in sources]
    runs = ", ".join(f"run {run} ({n:,})" for run, n in sorted(facts.runs.items()))
    return (
        "## Labels\n\n"
        + _table(("source", *Question), rows)
        + f"\n\n{facts.n_recategorised:,} listings carry another category than the seller's."
        + (f" Repaired labels come from {runs}." if runs else "")
    )


def _noise(facts: Facts) -> str:
    found = facts.noise()
    if found is None:
        words = "Not estimated: no listing drawn uniformly for audit has been decided. `refurbish review` adds an audit share."
    else:
        words = (
            f"Of {found.n:,} listings drawn uniformly for audit, moderators gave another category than the seller to "
            f"{facts.n_audited_wrong:,}: an estimated {found.value:.1%} of the sellers' categories were wrong "
            f"(95 % interval {found.low:.1%} to {found.high:.1%})."
        )
    return f"## Estimated label noise\n\n{words}"


def _people(facts: Facts) -> str:
    if not facts.annotators:
        return "## Annotators\n\nNo moderator has answered yet; every label is the seller's or a report."
    rows = [(name, f"{n:,}") for name, n in facts.annotators.most_common(SHOWN)]
    lines = [_agreement(question.value, facts.pairs[question.value]) for question in Question]
    return "## Annotators\n\n" + _table(("annotator", "answers"), rows) + "\n\n" + "\n".join(lines)


def _agreement(question: str, pairs: Mapping[bool, int]) -> str:
    found = share(pairs[True], pairs[True] + pairs[False])
    if found is None:
        return f"- {question}: agreement is not known, nobody answered a listing that another one had answered."
    return (
        f"- {question}: {found.value:.1%} of {found.n:,} pairs of answers to one listing agree "
        f"(95 % interval {found.low:.1%} to {found.high:.1%})."
    )


def _splits(facts: Facts) -> str:
    rows = [(split, f"{facts.splits[split]:,}") for split in Split]
    return (
        "## Splits\n\n"
        + _table(("split", "listings"), rows)
        + "\n\nSplits hold whole groups of near-duplicates; a group keeps its split from one snapshot to the next."
    )


def _columns(facts: Facts) -> str:
    return "## Columns\n\n" + _table(
        ("column", "meaning"), [(f"`{name}`", column.words) for name, column in facts.columns.items()]
    )


def _gaps(facts: Facts) -> str:
    few = sorted(name for name, n in facts.values["category"].items() if n < FEW)
    lines = [
        f"- {facts.sources['category']['unlabelled']:,} listings without a category, "
        f"{facts.sources['violation']['unlabelled']:,} that nobody asked about violations (missing, not `none`).",
        f"- {facts.n_undecided:,} answers of moderators undecided (a tie); the earlier label stands.",
        f"- {facts.n_without_photo:,} listings without a photo.",
        f"- {facts.content['changed']:,} listings whose content changed after the snapshot and {facts.content['erased']:,} that "
        "are gone; see `content`.",
        f"- {len(few):,} categories with fewer than {FEW} listings" + (f": {_listed(few)}." if few else "."),
    ]
    return "## Known gaps\n\n" + "\n".join(lines)


def _files(files: Sequence[str]) -> str:
    lines = "\n".join(f"- `{name}`" for name in files[:SHOWN])
    return "## Files\n\n" + lines + "\n\n`manifest.json` describes them; `sha256sum --check SHA256SUMS` proves them."


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return "; ".join(_safe(name) for name in names[:SHOWN]) + rest


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_safe(cell) for cell in line) + " |" for line in lines)


def _safe(cell: str) -> str:
    """Names of people and categories are data: no markup, no new table cells, one line."""
    flat = re.sub(r"\s+", " ", str(cell))
    return re.sub(r"([|<>\[\]*\\])", r"\\\1", flat)
