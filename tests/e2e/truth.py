"""How good each registered detector is against the known truth, on all listings of the test split."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from curation import settings
from curation.catalog.photos import PhotoCache
from curation.catalog.scorer import Scorer
from curation.quality.metrics import Estimate, accuracy
from curation.release import registry
from curation.release.splits import split_of
from curation.store import listings
from curation.store.workspace import Workspace
from curation.types import Split


def accuracies(home: Path, truth: Mapping[str, str]) -> dict[str, Estimate]:
    """Model name → accuracy, oldest first; no model was trained on these listings."""
    workspace = Workspace.open(settings.load(home=home))
    with workspace.db.read() as session:
        models = list(reversed(registry.models(session)))
        found = [listing for page in listings.pages(session) for listing in page]
    unseen = [listing for listing in found if split_of(listing.group_key) is Split.TEST and listing.ref in truth]
    scores = {}
    for model in models:
        scorer = Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256)
        cache = PhotoCache(home / "cache", scorer.featurizer.config.photo_px)
        found_scores = scorer.score(unseen, workspace.media, cache)
        chosen = found_scores.category_probs.argmax(1)
        right = [found_scores.classes[at] == truth[listing.ref] for at, listing in zip(chosen, unseen, strict=True)]
        scores[model.name] = accuracy(np.array(right, bool))
    workspace.db.dispose()
    return scores
