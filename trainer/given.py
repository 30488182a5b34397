"""What every process of a run reads for itself, and the fits that they share."""

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.catalog.kinds import Kinds
from curation.catalog.photos import PhotoCache
from curation.catalog.tokens import Tokenizer
from curation.errors import InputError, StaleLease
from curation.release import snapshot
from curation.store import violations
from curation.store.workspace import Workspace
from curation.types import Split
from trainer import asked, data, folds, loop, state
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.processes import Processes
from trainer.rows import SnapshotRows, load
from trainer.sequence import tokenizer_of

MIN_TRAIN = 10

Lost = Callable[[], bool]


@dataclass(slots=True)
class Stages:
    """Seconds of each stage; a lost lease stops the run between two of them."""

    lost: Lost
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self.lost():
            raise StaleLease(f"the job's lease was lost before {name}; nothing was stored")
        started_s = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started_s, 2)


@dataclass(frozen=True, slots=True)
class Given:
    """The rows of a snapshot, ready to be learnt from."""

    rows: SnapshotRows
    wanted: data.Targets
    before: state.Carried | None  #: what the last run's fit remembered
    train: data.Rows
    validation: data.Rows
    tokenizer: Tokenizer | None
    features: Features
    table: data.Table
    saved: Checkpoints

    def held_out(self, config: TrainConfig, lost: Lost, processes: Processes) -> folds.HeldOut:
        """The predictions of all rows by detectors that did not see them."""
        assigned = folds.assign(self.wanted.category, self.rows.groups, config.n_folds, config.seed)
        return folds.held_out(self.table, assigned, config, lost, processes, self.saved)

    def fit(self, config: TrainConfig, lost: Lost, processes: Processes) -> loop.Fitted:
        """The detector of the run."""
        learnt = self.before.state if self.before else None
        kept = self.saved.fit("whole", self.train, self.validation)
        return loop.fit(
            self.table, self.train, self.validation, config=config, lost=lost, state=learnt, processes=processes, saved=kept
        )


def read(
    workspace: Workspace, sha256: str, config: TrainConfig, device: torch.device, stages: Stages, processes: Processes
) -> Given:
    """The snapshot on the device. Raises InputError where little has a category, or where processes see different data."""
    torch.set_num_threads(processes.threads(config.n_threads))
    loop.settle(config)
    shape = FeatureConfig(photo_px=config.photo_px)
    with stages.stage("read"):
        rows = load(workspace, snapshot.load(workspace, sha256))
        wanted = _targets(workspace, rows, config)
        before = state.carried(workspace) if config.carry else None
    with stages.stage("features"), processes.in_turn():
        folder = workspace.settings.home / "cache"
        cache = PhotoCache(folder, shape.photo_px)
        train, validation = _training_rows(rows, wanted)
        tokenizer = tokenizer_of(rows.listings, train, config)
        kinds = Kinds(wanted.classes) if config.reads_said else None
        features = Featurizer(shape, tokenizer, kinds).transform(rows.listings, workspace.media, cache)
        table = data.Table(features, shape, wanted, loop.stem_of(features, train, config, folder), device)
    inputs = (features.ids, features.numeric, features.photo_index, features.photos, wanted.category, wanted.category_weight)
    if processes.n > 1:
        processes.agree({"carried state": before and before.report, "inputs": [zlib.crc32(part.tobytes()) for part in inputs]})
    told = {name: value for name, value in config.to_json().items() if name != "checkpoint_s"}
    learnt = {"snapshot": sha256, "config": told, "carried": before and before.report, "device": device.type}
    follows_from = {**learnt, "inputs": _crcs(table)}
    saved = Checkpoints.of(workspace.settings.home, follows_from, config.checkpoint_s, processes)
    return Given(rows, wanted, before, train, validation, tokenizer, features, table, saved)


def _crcs(table: data.Table) -> dict[str, int]:
    """Of all that a fit sees of a table. Listings can have changed since their snapshot, a backbone's file since the last run."""
    seen: dict[str, Any] = {}
    for part in (table.features, table.features.tokens, table.targets):
        if part is not None:
            seen |= {f"{type(part).__name__}.{one.name}": getattr(part, one.name) for one in fields(part)}
    seen.pop("Features.photos")  # the stem is learnt from them, and their names are in the snapshot
    seen |= {f"stem.{name}": value.cpu().numpy() for name, value in table.stem.state_dict().items()}
    return {name: zlib.crc32(value.tobytes()) for name, value in seen.items() if isinstance(value, np.ndarray)}


def follow(workspace: Workspace, sha256: str, config: TrainConfig, device: torch.device, processes: Processes) -> None:
    """What every process but the first does of a run: its share of the folds' fits and of the last one. Nothing is written."""
    stages = Stages(lambda: False)
    given = read(workspace, sha256, config, device, stages, processes)
    given.held_out(config, stages.lost, processes)
    given.fit(config, stages.lost, processes)


def _targets(workspace: Workspace, rows: SnapshotRows, config: TrainConfig) -> data.Targets:
    with workspace.db.read() as session:
        policy, added = violations.names(session, workspace.settings), violations.added(session)
        spoke_at = asked.decided_at(session) if added else {}
    origins = data.Origins.of(rows.listings, rows.groups)
    if not added:
        return data.targets(rows.category, rows.violation, policy, config, origins)
    answered = asked.asked_of(rows, policy, added, spoke_at)
    reported = np.stack([asked.reported(rows, name) for name in policy], 1)
    return data.targets(rows.category, rows.violation, policy, config, origins, answered, reported)


def _training_rows(rows: SnapshotRows, wanted: data.Targets) -> tuple[data.Rows, data.Rows]:
    train, validation = rows.of(Split.TRAIN), rows.of(Split.VALIDATION)
    n_labelled = int((wanted.category[train] >= 0).sum())
    if n_labelled < MIN_TRAIN:
        raise InputError(
            f"only {n_labelled} listings of the training split have a category, at least {MIN_TRAIN} are needed; ingest more"
        )
    return train, validation[wanted.category[validation] >= 0]
