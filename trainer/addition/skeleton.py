"""The live detector as a skeleton: everything in it stays as it is, a head for one more violation is fitted on its features.

The violation heads are linear in n-grams and photos (`trainer.violations`), and what weighs these (idf, photo filters,
scales) was learnt without a violation label. A further head is one more column; the others keep their weights to the last bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from scipy.sparse import csr_matrix
from torch import Tensor

from curation.catalog.features import FeatureConfig, Features
from curation.catalog.scorer import FP32, Scorer
from curation.catalog.tokens import Tokenizer
from curation.errors import IntegrityError, shorten
from curation.release.registry import Model
from curation.store.files import FileStore
from curation.store.workspace import Workspace
from curation.types import Listing
from trainer import manner, violation_fit, violations
from trainer.config import LOGISTIC, TrainConfig
from trainer.data import Rows, Table
from trainer.loop import unlearnt_stem
from trainer.model import Detector
from trainer.onnx import WEIGHTS_SUFFIX
from trainer.violations import Fitted, Linear, Seen

TEXT, DENSE, BIAS = "text.direct", "violation.weight", "violation.bias"
"""The violation heads in a detector's state: (n_buckets, V), (V, F + 5), (V,)."""

LOUD = "text.direct_scale"
"""How much each block of n-grams says to them; the same for all models that were stored without it."""

KIND = "kind."
KINDS = (f"{KIND}said", f"{KIND}predicted")
"""And what the category says of them, where it is asked: (n, V) each."""

COLUMNS = (TEXT, *KINDS)
"""Where each violation is a column; elsewhere it is a row."""

ADDED = ("residual.head.weight", "residual.head.bias")
"""What a network of their own adds to them, where there is one: (V, D), (V,). To a further head it adds nothing."""

BEFORE = {"violations_see_category": "none", "violation_loss": LOGISTIC}
"""What models were trained with whose sidecars do not say it."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """A released detector with its files' contents."""

    model: Model
    scorer: Scorer
    detector: Detector

    @property
    def shape(self) -> FeatureConfig:
        return self.scorer.featurizer.config

    @property
    def config(self) -> TrainConfig:
        """What the detector was fitted with."""
        return self.detector.config

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self.scorer.featurizer.tokenizer


def load(workspace: Workspace, model: Model) -> Skeleton:
    """The detector of a model's stored weights. Raises NotFoundError or IntegrityError where its files are gone or disagree."""
    scorer = Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256, FP32)
    try:
        detector = _detector(workspace.files, scorer, model.weights_sha256, len(scorer.violations))
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise IntegrityError(
            f"weights {model.weights_sha256[:12]} of {model.name} do not fit its sidecar: {shorten(str(error), 200)}; run "
            "`refurbish retrain` for a model of this version"
        ) from error
    return Skeleton(model, scorer, detector)


def _detector(files: FileStore, scorer: Scorer, sha256: str, n_violations: int) -> Detector:
    made = _empty(scorer, n_violations)
    made.load_state_dict({LOUD: made.text.direct_scale, **read_tensors(files.get(sha256, WEIGHTS_SUFFIX))})
    return made.eval()


def _empty(scorer: Scorer, n_violations: int) -> Detector:
    config, tokenizer = TrainConfig.from_json({**BEFORE, **scorer.sidecar["train"]}), scorer.featurizer.tokenizer
    n_ids = 0 if tokenizer is None else tokenizer.n_ids
    shape = scorer.featurizer.config
    return Detector(config, shape, scorer.classes, n_violations, n_ids, unlearnt_stem(config, shape.photo_px))


def widened(skeleton: Skeleton, head: Linear) -> Detector:
    """The detector with one head more, the last one; all else is the same to the last bit. `head` : of one violation."""
    old = skeleton.detector.state_dict()
    new: dict[str, Tensor] = {
        TEXT: torch.cat([old[TEXT], torch.from_numpy(head.text)], 1),
        **{name: torch.cat([old[name], torch.from_numpy(kind)], 1) for name, kind in _kinds(skeleton, head).items()},
        DENSE: torch.cat([old[DENSE], torch.from_numpy(head.dense(old[DENSE].shape[1]))]),
        BIAS: torch.cat([old[BIAS], torch.from_numpy(head.bias)]),
        **{name: torch.cat([old[name], torch.zeros_like(old[name][:1])]) for name in ADDED if name in old},
    }
    made = _empty(skeleton.scorer, len(old[BIAS]) + 1)
    made.load_state_dict({**old, **new})
    return made.eval()


def _kinds(skeleton: Skeleton, head: Linear) -> dict[str, Floats]:
    """What the category says of one violation, as the detector keeps it, for the tables that it has."""
    made = skeleton.detector.kind
    if made is None:
        return {}
    found = violation_fit.tables(head, skeleton.scorer.classes)
    there = dict(zip(KINDS, (made.said, made.predicted), strict=True))
    return {name: found[name.removeprefix(KIND)] for name, table in there.items() if table is not None}


def is_kept(old: Detector, new: Detector) -> bool:
    """Whether every weight of `old` is in `new`, bit for bit; `new` may have further violation heads after them."""
    before, after, n = old.state_dict(), new.state_dict(), len(old.violation.bias)
    mine = {
        name: value[:, :n] if name in COLUMNS else value[:n] if name in (DENSE, BIAS, *ADDED) else value
        for name, value in after.items()
    }
    return before.keys() == mine.keys() and all(torch.equal(value, mine[name]) for name, value in before.items())


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """What the violation heads of a skeleton see of N listings."""

    seen: Seen
    groups: NDArray[np.int64]  #: (N,) number of the near-duplicate group
    config: TrainConfig  #: what the skeleton was fitted with

    @classmethod
    def of(cls, skeleton: Skeleton, table: Table) -> "Frozen":
        """Of a table's listings, whose photos went through the skeleton's stem."""
        table.weigh(skeleton.detector.text)
        seen = violation_fit.seen(skeleton.detector, table, np.arange(len(table)), skeleton.scorer.classes)
        return cls(seen, table.targets.group, skeleton.config)

    def fit(self, rows: Rows, present: NDArray[np.bool_], weight: Floats) -> Linear:
        """The head of one violation by these rows (n,); `present`, `weight` : (N,)."""
        found = self._fitted(rows, present, weight, violations.folds_of(self.groups[rows], violations.N_FOLDS, self.config.seed))
        return replace(found.head, bias=found.head.bias - np.float32(self.config.violation_caution) * found.error)

    def held_out(self, present: NDArray[np.bool_], weight: Floats, folds: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,) logits of heads that did not see the row's fold, all on one scale, so that rows of all folds can be ranked.

        Which of two losses they are fitted with is chosen once, on all rows.
        """
        return self._fitted(np.arange(len(self.seen)), present, weight, folds).logits[:, 0].astype(np.float64)

    def _fitted(self, rows: Rows, present: NDArray[np.bool_], weight: Floats, folds: NDArray[np.int64]) -> Fitted:
        """Titles are as loud as in the skeleton."""
        answers = present[rows, None].astype(np.float32), weight[rows, None]
        seen, groups, config = self.seen.of(rows), self.groups[rows], self.config
        asked = violation_fit.way(config)
        how = manner.chosen(lambda some, _: seen.of(some), *answers, groups, asked, config.seed, fixed=("title",))
        return violations.fitted(seen, *answers, groups, how, is_scaled=config.violation_scaled, folds=folds)

    def logits(self, head: Linear, rows: Rows) -> NDArray[np.float64]:
        """(n,) of these rows."""
        return head.logits(self.seen.of(rows))[:, 0].astype(np.float64)

    def likeness(self, row: csr_matrix) -> NDArray[np.float64]:
        """(N,) how much n-grams are like those of one text (1, n_buckets): cosine, in [0, 1]."""
        ngrams = self.seen.ngrams
        lengths = np.sqrt(np.asarray(ngrams.multiply(ngrams).sum(1)).ravel()) * math.sqrt(row.multiply(row).sum())
        found = np.asarray((ngrams @ row.T).todense()).ravel() / np.maximum(lengths, 1e-9)
        clipped: NDArray[np.float64] = np.clip(found.astype(np.float64), 0, 1)
        return clipped


@torch.no_grad()
def ngrams_of(skeleton: Skeleton, features: Features) -> csr_matrix:
    """(n, n_buckets) n-grams of a few listings as the heads see them."""
    text = skeleton.detector.text
    ids = torch.from_numpy(features.ids)
    scale = torch.cat([text.direct_scale[at].expand(length) for at, length in enumerate(text.lengths)])
    weights = (text.weigh(ids, torch.from_numpy(features.counts)) * scale).numpy()
    row, column = np.nonzero(features.ids)
    return csr_matrix((weights[row, column], (row, features.ids[row, column])), (len(ids), skeleton.shape.n_buckets))


def called(skeleton: Skeleton, workspace: Workspace, title: str) -> csr_matrix:
    """(1, n_buckets) n-grams of a violation's title, as if a listing said nothing else."""
    said = Listing(0, "", None, title, title, None, None, {}, (), None, (), "", None)
    return ngrams_of(skeleton, skeleton.scorer.featurizer.transform([said], workspace.media))


def texts(listings: Sequence[Listing]) -> list[str]:
    """Title and description of each."""
    return [f"{one.title} {one.description}" for one in listings]
