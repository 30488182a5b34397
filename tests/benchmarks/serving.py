"""What one answer costs: eager PyTorch, the model file in floats, and the one in whole numbers, with what that one loses.

    python -m tests.benchmarks.serving --data ../shared/data/gumtree
    python -m tests.benchmarks.serving --data ../shared/data/gumtree --backbone lite0.safetensors --px 128
    python -m tests.benchmarks.serving --sample 3000

Processor milliseconds of one thread, the same inputs for all, in turns; the best of some calls for each listing or batch, and of
these the mean. Losses are those of the rows to judge (25 %), against the file in floats. Real ads have the sellers' categories
and proxies of violations, the generated catalog its truth. Photos are decoded and texts hashed beforehand; that has a table of
its own. "ONNX as written" is the network exported without `trainer.served`; what that makes is run eagerly too.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.console import table
from curation.quality.metrics import average_precision
from curation.store.workspace import Workspace
from curation.types import Split
from tests.benchmarks.catalog import Catalog, fit, opened, parser_of, present_in, table_of
from trainer import onnx, quantize
from trainer.config import TEXT_CNN, TrainConfig
from trainer.model import Exportable
from trainer.search.cells import random_genotype
from trainer.sequence import tokenizer_of
from trainer.served import served

BATCH, PART = 256, 32
EAGER, EAGER_PARTS, EAGER_SERVED = "eager", f"eager, {PART} at a time", "eager, the network that is served"
PLAIN, FP32, INT8 = "ONNX as written", "ONNX fp32", "ONNX int8"
N_PROFILED = 30
BAG = "bag, photos, numbers"
Inputs = Mapping[str, NDArray[Any]]
Answer = Callable[[Inputs], tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class Model:
    """A fitted detector with its files and what it can be tried on."""

    features: Features
    test: NDArray[np.int64]
    truth: NDArray[np.int64]  #: (n,) class of each test row, -1 = unknown to the model
    present: NDArray[np.bool_]  #: (n, V)
    network: Exportable
    quick: Exportable  #: what is served of it
    files: Mapping[str, bytes]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=TrainConfig().epochs)
    parser.add_argument("--listings", type=int, default=24, help="listings that are scored alone")
    parser.add_argument("--calls", type=int, default=15, help="calls for each of them")
    parser.add_argument("--cells", type=Path, help="a genotype that `refurbish search --out` wrote (default: random cells)")
    parser.add_argument("--backbone", help="weights of a network that photos are seen by in one more table")
    parser.add_argument("--px", type=int, default=128, help="side of its photos")
    parser.add_argument("--profile", action="store_true", help="where the time of the file in whole numbers goes")
    options = parser.parse_args()
    with opened(options) as (workspace, catalog):
        for name, changes in designs(options).items():
            config = TrainConfig.from_json({"seed": options.seed, "epochs": options.epochs, **changes})
            model = fitted(workspace, catalog, config)
            print(f"\n{name}: {len(model.test):,} rows to judge, {model.network.detector.category.leaf.out_features} categories")
            print(compared(model, options), flush=True)
            if options.profile:
                profile(model)
        print(f"\nbefore that, a listing\n{prepared(workspace, catalog, options.listings)}")


def designs(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What differs from the default, by the names of the tables."""
    if options.cells:
        name, cells = f"… + cells of {options.cells.name}", options.cells.read_text(encoding="utf-8")
    else:
        name, cells = "… + random cells", random_genotype(np.random.default_rng(options.seed)).to_json()
    found = {BAG: {}, "… + TextCNN": {"architecture": TEXT_CNN}, name: {"architecture": cells}}
    if options.backbone:
        found[f"bag, {options.px}-pixel photos by {Path(options.backbone).stem}, numbers"] = {
            "backbone": options.backbone,
            "backbone_alone": True,
            "photo_px": options.px,
        }
    return found


def fitted(workspace: Workspace, catalog: Catalog, config: TrainConfig) -> Model:
    """The detector as `refurbish retrain` would fit and export it."""
    torch.set_num_threads(config.n_threads)
    shape, train, test = FeatureConfig(photo_px=config.photo_px), catalog.rows[Split.TRAIN], catalog.rows[Split.TEST]
    tokenizer = tokenizer_of(catalog.listings, train, config)
    features = Featurizer(shape, tokenizer).transform(catalog.listings, workspace.media)
    made = table_of(catalog, features, shape, config)
    detector = fit(made, catalog, config).detector.eval()
    index = {path: at for at, path in enumerate(made.targets.classes)}
    quick = served(detector, shape.photo_px)
    fp32 = onnx.traced(quick, shape)
    return Model(
        features,
        test,
        np.array([index.get(catalog.judged[row], -1) for row in test]),
        present_in(catalog)[test],
        Exportable(detector).eval(),
        quick,
        {
            PLAIN: onnx.traced(Exportable(detector), shape),
            FP32: fp32,
            INT8: quantize.int8(fp32, quantize.calibration(features, train)),
        },
    )


def compared(model: Model, options: argparse.Namespace) -> str:
    """A row of the table for each way to answer."""
    torch.set_num_threads(1)
    networks = {EAGER: model.network, EAGER_SERVED: model.quick}
    ways: dict[str, Answer] = {name: partial(eager, network) for name, network in networks.items()}
    ways |= {name: answer(session(graph)) for name, graph in model.files.items()}
    rng = np.random.default_rng(options.seed)
    alone = [model.features.inputs(np.array([row])) for row in rng.choice(model.test, options.listings, replace=False)]
    single = times(ways, alone, options.calls)
    batches = [rng.choice(len(model.features), BATCH, replace=len(model.features) < BATCH) for _ in range(2)]
    many = times(ways, [model.features.inputs(rows) for rows in batches], 3)
    parts = [model.features.inputs(rows[at : at + PART]) for rows in batches for at in range(0, BATCH, PART)]
    many[EAGER_PARTS] = times({EAGER: ways[EAGER]}, parts, 3)[EAGER] * BATCH / PART
    exact = answers(ways[FP32], model)
    lines = [
        (
            name,
            *_cells(single.get(name), single[EAGER], 3),
            *_cells(many[name], many[EAGER], 1),
            f"{len(model.files[name]) / 1e6:.1f}" if name in model.files else "",
            *(losses(exact, answers(ways[name], model), model) if name in ways else [""] * 4),
        )
        for name in (EAGER, EAGER_PARTS, EAGER_SERVED, *model.files)
    ]
    head = ("", "1: ms", "ratio", f"{BATCH}: ms", "ratio", "MB", "max |Δp|", "AP loss, worst", "mean", "accuracy loss")
    return table(lines, head)


def _cells(found: float | None, usual: float, digits: int) -> tuple[str, str]:
    return ("", "") if found is None else (f"{found:.{digits}f}", f"{usual / found:.1f}×")


def eager(network: Exportable, inputs: Inputs) -> tuple[NDArray[Any], NDArray[Any]]:
    """PyTorch's answer, operation by operation."""
    with torch.inference_mode():
        category, violation, _ = network(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return category.numpy(), violation.numpy()


def session(graph: bytes, *, is_profiled: bool = False) -> onnxruntime.InferenceSession:
    """Of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level, options.enable_profiling = 3, is_profiled
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / "serving")
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def answer(found: onnxruntime.InferenceSession) -> Answer:
    """The file's answer."""
    return lambda inputs: tuple(found.run(["category", "violation"], dict(inputs)))


def times(ways: Mapping[str, Answer], inputs: Sequence[Inputs], n_calls: int) -> dict[str, float]:
    """Mean over the inputs of the fewest milliseconds, the ways in turns."""
    best = {name: np.full(len(inputs), np.inf) for name in ways}
    for at, one in enumerate(inputs):
        for _ in range(n_calls):
            for name, way in ways.items():
                started_s = time.process_time()
                way(one)
                best[name][at] = min(best[name][at], (time.process_time() - started_s) * 1000)
    return {name: float(found.mean()) for name, found in best.items()}


def answers(way: Answer, model: Model) -> tuple[NDArray[Any], NDArray[Any]]:
    """Category and violation probabilities of the rows to judge."""
    parts = [way(model.features.inputs(model.test[at : at + PART])) for at in range(0, len(model.test), PART)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def losses(
    exact: tuple[NDArray[Any], NDArray[Any]], found: tuple[NDArray[Any], NDArray[Any]], model: Model
) -> tuple[str, str, str, str]:
    """Largest difference of a probability; average precision lost at worst and on average; accuracy lost."""
    gap = max(float(np.abs(one - other).max()) for one, other in zip(exact, found, strict=True))
    heads = [at for at in range(model.present.shape[1]) if model.present[:, at].any()]
    lost = [
        average_precision(model.present[:, at], exact[1][:, at]) - average_precision(model.present[:, at], found[1][:, at])
        for at in heads
    ]
    right = [(one[0].argmax(1) == model.truth).mean() for one in (exact, found)]
    return f"{gap:.1e}", f"{max(lost):+.4f}", f"{np.mean(lost):+.4f}", f"{right[0] - right[1]:+.4f}"


def profile(model: Model) -> None:
    """Microseconds of each kind of operation in the file in whole numbers, for one listing with two photos."""
    shown = model.test[(model.features.photo_index[model.test] > 0).sum(1) == 2][:1]
    inputs, found = model.features.inputs(shown), session(model.files[INT8], is_profiled=True)
    for _ in range(N_PROFILED):
        found.run(None, inputs)
    file = Path(found.end_profiling())
    events = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    best: dict[str, tuple[str, int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            best[event["name"]] = event["args"]["op_name"], min(event["dur"], best.get(event["name"], ("", 10**9))[1])
    spent: Counter[str] = Counter()
    for kind, duration_us in best.values():
        spent[kind] += duration_us
    n_of = Counter(kind for kind, _ in best.values())
    print(f"one listing with two photos, {len(best)} operations, {sum(spent.values())} µs with the profiler's own")
    print(table([(kind, n_of[kind], duration_us) for kind, duration_us in spent.most_common(12)], ("", "operations", "µs")))


def prepared(workspace: Workspace, catalog: Catalog, n: int) -> str:
    """What reading a listing takes: its texts hashed, its photos decoded."""
    featurizer, chosen = Featurizer(FeatureConfig()), [catalog.listings[row] for row in catalog.rows[Split.TEST][:n]]
    bare = [replace(one, photos=()) for one in chosen]
    spent = []
    for found in (bare, chosen):
        best = np.full(n, np.inf)
        for _ in range(3):
            for at, one in enumerate(found):
                started_s = time.process_time()
                featurizer.transform([one], workspace.media)
                best[at] = min(best[at], (time.process_time() - started_s) * 1000)
        spent.append(float(best.mean()))
    n_photos = np.mean([len(one.photos[: FeatureConfig().n_views]) for one in chosen])
    rows = [("texts", f"{spent[0]:.2f}"), (f"photos, {n_photos:.1f} of them", f"{spent[1] - spent[0]:.2f}")]
    return table(rows, ("", "ms"))


if __name__ == "__main__":
    main()
