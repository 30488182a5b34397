"""Heads over single views, class balance, missing modalities and photo backbones, on one set of rows.

    python -m tests.benchmarks.backbone heads --data ../shared/data/gumtree
    python -m tests.benchmarks.backbone photos --data ../shared/data/gumtree --backbone resnet18.safetensors

`heads`: a fit of each option beside the plain one: accuracy, mean recall over classes, validation accuracy, seconds, and the
test accuracy with each modality taken away. `photos`: features of a frozen backbone, fresh and from the cache, and photos alone
with the patch filters and with it. Without --backbone its weights are random: the speed is right, the accuracy is a floor.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.console import table
from curation.quality.metrics import paired_difference
from curation.types import Split
from tests.benchmarks.catalog import Catalog, fit, groups_of, narrowed, narrowing, opened, parser_of, table_of
from tests.benchmarks.category import left
from trainer import backbone, data, loop, views
from trainer.batch import without
from trainer.config import TrainConfig
from trainer.resnet import ResNet

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "aux_weight=0.1": {"aux_weight": 0.1},
    "aux_weight=0.3": {"aux_weight": 0.3},
    "aux_weight=1": {"aux_weight": 1.0},
    "balance=sqrt": {"balance": "sqrt"},
    "balance=inverse": {"balance": "inverse"},
    "hide_attributes, hide_price 0.1": {"hide_attributes": 0.1, "hide_price": 0.1},
}
HIDDEN = ("text", "photos", "price", "attributes")


def main() -> None:
    parser = narrowing(parser_of(__doc__))
    parser.add_argument("what", choices=("heads", "photos"))
    parser.add_argument(
        "--backbone", help="a file of weights, timm:NAME@FILE or transformers:FOLDER (default: a random resnet18)"
    )
    parser.add_argument("--px", type=int, default=64, help="side of a photo, for a backbone")
    parser.add_argument("--only", nargs="+", choices=OPTIONS, help="options to measure, the plain one always")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with opened(options) as (workspace, found):
        catalog = narrowed(found, options).without_violations()
        shape = FeatureConfig(photo_px=options.px) if options.what == "photos" else FeatureConfig()
        features = Featurizer(shape).transform(catalog.listings, workspace.media)
        n_photos = len(features.photos) - 1
        print(f"{len(catalog.rows[Split.TRAIN]):,} rows to fit, {len(catalog.rows[Split.TEST]):,} to judge, {n_photos:,} photos")
        (heads if options.what == "heads" else photos)(catalog, features, shape, options)


def heads(catalog: Catalog, features: Features, shape: FeatureConfig, options: argparse.Namespace) -> None:
    """All options, each as soon as it is there, and their difference from the plain fit on the same rows."""
    hits: dict[str, list[NDArray[np.bool_]]] = {}
    groups = groups_of(catalog)
    header = ("", "top 1", "mean recall", "validation", "seconds", *(f"no {name}" for name in HIDDEN), "views on validation rows")
    rows = []
    for name in dict.fromkeys(["plain", *(options.only or OPTIONS)]):
        found = [_fitted(catalog, features, shape, OPTIONS[name], options.seed + at) for at in range(options.seeds)]
        hits[name] = [one[0] for one in found]
        figures = np.mean([one[1] for one in found], axis=0)
        rows.append(
            (
                name,
                *(f"{value:.3f}" for value in figures[:3]),
                f"{figures[3]:.1f}",
                *(f"{v:.3f}" for v in figures[4:]),
                found[0][2],
            )
        )
        print(" | ".join(rows[-1]), flush=True)
    print("\n" + table(rows, header))
    for name in hits:
        gap = paired_difference(hits[name][0], hits["plain"][0], groups, rng=np.random.default_rng(options.seed))
        mean = np.mean([one.mean() - plain.mean() for one, plain in zip(hits[name], hits["plain"], strict=True)])
        print(f"{name} − plain: {mean:+.3f}, first seed {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")


def _fitted(
    catalog: Catalog, features: Features, shape: FeatureConfig, changes: dict[str, Any], seed: int
) -> tuple[NDArray[np.bool_], list[float], str]:
    """Which test rows are right, the figures of the table, and what single views say."""
    started_s, config = time.monotonic(), TrainConfig.from_json({"seed": seed, **changes})
    made = table_of(catalog, features, shape, config)
    fitted = fit(made, catalog, config)
    spent_s = time.monotonic() - started_s
    test, held = catalog.rows[Split.TEST], catalog.rows[Split.VALIDATION]
    truth, classes = np.array(catalog.judged)[test], np.array(made.targets.classes)
    hit = classes[loop.predict(fitted.detector, made, test)[0].argmax(1)] == truth
    recall = np.mean([hit[truth == name].mean() for name in np.unique(truth)])
    validated = (loop.predict(fitted.detector, made, held)[0].argmax(1) == made.targets.category[held]).mean()
    hidden = [float((classes[_without(fitted.detector, made, test, name)] == truth).mean()) for name in HIDDEN]
    shown = {name: one["accuracy"] for name, one in views.report(fitted.detector, made, held).items()}
    return hit, [float(hit.mean()), float(recall), float(validated), spent_s, *hidden], str(shown or "")


@torch.no_grad()
def _without(detector: Any, made: data.Table, rows: data.Rows, modality: str) -> NDArray[np.int64]:
    parts = (made.batch(part) for part in data.parts(rows))
    return np.concatenate([detector(without(part, modality))[0].argmax(1).numpy() for part in parts])


def photos(catalog: Catalog, features: Features, shape: FeatureConfig, options: argparse.Namespace) -> None:
    """Seconds of the features, and accuracy from photos alone and from all inputs."""
    with tempfile.TemporaryDirectory() as folder:
        source = options.backbone or _random(Path(folder))
        for name in ("fresh", "from the cache"):
            started_s = time.process_time()
            found = backbone.load(source, options.px, Path(folder)).encode(features.photos)
            spent_s = time.process_time() - started_s
            print(f"features {name}: {spent_s:.1f} s of processor, {len(found) / spent_s:,.0f} photos/s, {found.shape[1]} wide")
        rows = []
        for name, changes in _of_photos(source):
            config = TrainConfig.from_json({"seed": options.seed, "photo_px": options.px, **changes})
            scores = []
            for parts in ("photos", "all"):
                made = table_of(catalog, left(features, parts), shape, config, Path(folder))
                fitted = fit(made, catalog, config)
                test, classes = catalog.rows[Split.TEST], np.array(made.targets.classes)
                chosen = classes[loop.predict(fitted.detector, made, test)[0].argmax(1)]
                scores.append(f"{(chosen == np.array(catalog.judged)[test]).mean():.3f}")
            rows.append((name, *scores))
            print(" | ".join(rows[-1]), flush=True)
        print("\n" + table(rows, ("", "photos alone", "all inputs")))


def _of_photos(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "patch filters", {}
    yield "backbone beside them", {"backbone": source}
    yield "backbone alone", {"backbone": source, "backbone_alone": True}


def _random(folder: Path) -> str:
    """A file of random weights, as a file of learnt ones would lie there."""
    torch.manual_seed(1)
    save_file({name: value.contiguous() for name, value in ResNet("resnet18").state_dict().items()}, folder / "r.safetensors")
    return str(folder / "r.safetensors")


if __name__ == "__main__":
    main()
