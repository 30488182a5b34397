"""What a fit remembers of each listing: kept by ref and class path, forgotten with what it was learnt from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors_of

from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import registry
from curation.store.files import FileStore
from curation.store.workspace import Workspace
from tests.builders import NOW
from tests.unit.test_trainer import CONFIG, WORDS, listing, rows, table
from trainer import loop, state
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.objective import CrossEntropy
from trainer.refurbish import Largest, Memory, Refurbish
from trainer.selfie import EMPTY, MAX_HISTORY, History, Selfie
from trainer.state import State

CPU = torch.device("cpu")
N = 12
SELFIE = replace(CONFIG, recipe="selfie", selfie_noise=0.25, selfie_history=3, selfie_warmup=2, epochs=5)
EARLY = replace(CONFIG, early_learning=1.0, read_channel=False)
Damage = Callable[[dict[str, Any]], dict[str, Any]]


def changed(made: Table, **changes: object) -> Table:
    """The same listings with other targets."""
    return Table(made.features, made.shape, replace(made.targets, **changes), made.stem, CPU)  # type: ignore[arg-type]


def full(made: Table, q: int = 3) -> History:
    """Every listing was predicted to be of its own class q times."""
    history = History(len(made), len(made.targets.classes), q, CPU)
    history.ring[:] = torch.from_numpy(made.targets.category)[:, None].to(history.ring)
    return history


def laid(found: State, made: Table, q: int = 3) -> History:
    """A new history that goes on from this state."""
    history = History(len(made), len(made.targets.classes), q, CPU)
    history.resume(made, found)
    return history


def remembered(made: Table, steps: int = 4) -> Largest:
    """A memory of random predictions."""
    rng = torch.Generator().manual_seed(0)
    memory = Largest(len(made), len(made.targets.classes), 0.7, CPU)
    for _ in range(steps):
        memory.update(torch.arange(len(made)), torch.log_softmax(torch.randn(len(made), 3, generator=rng), 1))
    return memory


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    """To the last bit, under the same sha256."""
    made, files = table(tmp_path, N), FileStore(tmp_path / "files")
    for kept in (full(made).state(made), remembered(made).state(made)):
        found = state.load(files, state.save(files, kept))
        assert (found.kind, found.classes, found.refs) == (kept.kind, kept.classes, kept.refs)
        assert np.array_equal(found.labels, kept.labels) and np.array_equal(found.entries, kept.entries)
        assert found.p is kept.p is None or np.array_equal(found.p, kept.p)  # type: ignore[arg-type]
        assert state.save(files, found) == state.save(files, kept)


def test_rows_are_found_by_their_refs(tmp_path: Path) -> None:
    """In another order, with new listings among them, which start empty."""
    made = table(tmp_path, N)
    memory, history = remembered(made), full(made)
    history.ring[:, 0] = torch.arange(N) % 2
    other = table(tmp_path, found=[listing(at, list(WORDS)[at % 3]) for at in (20, *reversed(range(N)))])
    ring = laid(history.state(made), other).ring
    assert torch.equal(ring[1:], history.ring.flip(0)) and (ring[0] == EMPTY).all()
    resumed = Largest(N + 1, 3, 0.7, CPU)
    resumed.resume(other, memory.state(made))
    assert torch.equal(resumed.p[1:], memory.p.flip(0)) and torch.equal(resumed.classes[1:], memory.classes.flip(0))
    assert not resumed.p[0].any()


def test_a_class_that_is_gone_is_forgotten_and_a_new_one_moves_the_others(tmp_path: Path) -> None:
    """Predictions follow their class's path; a history that named the lost class is no longer full (fault 42)."""
    made = table(tmp_path, N)
    history = full(made)
    history.ring[:, 0] = made.targets.classes.index("Home / Kitchen")
    paths = {"Home / Garden": "Home / Garden", "Toys / Dolls": "Toys / Dolls", "Home / Kitchen": "Books / Novels"}
    classes = ("Books / Novels", "Home / Garden", "Toys / Dolls")
    at = np.array([classes.index(paths[path]) for path in made.targets.classes])
    other = changed(made, classes=classes, category=at[made.targets.category])
    found = laid(history.state(made), other).ring
    was_kitchen = made.targets.category == made.targets.classes.index("Home / Kitchen")
    assert (found[was_kitchen] == EMPTY).all()
    own = torch.from_numpy(other.targets.category[~was_kitchen])
    assert (found[~was_kitchen, 0] == EMPTY).all() and (found[~was_kitchen, 1:] == own[:, None]).all()


def test_means_of_a_class_that_is_gone_are_forgotten(tmp_path: Path) -> None:
    """The others keep theirs, largest first."""
    made = table(tmp_path, N)
    memory = remembered(made)
    other = changed(made, classes=("Books / Novels", *made.targets.classes[1:]))
    resumed = Largest(N, 3, 0.7, CPU)
    resumed.resume(other, memory.state(made))
    kept = made.targets.category != 0
    dense = [torch.zeros(N, 3).scatter_(1, one.classes.long(), one.p.float())[kept] for one in (memory, resumed)]
    assert torch.equal(dense[1][:, 1:], dense[0][:, 1:]) and not dense[1][:, 0].any()
    assert (resumed.p[:, :-1] >= resumed.p[:, 1:]).all() and not resumed.p[~kept].any()


def test_a_changed_label_starts_empty(tmp_path: Path) -> None:
    """A network that learnt the former label would talk the new one down; so also once it has been taken back."""
    made = table(tmp_path, N)
    category = made.targets.category.copy()
    category[0], category[1] = (category[0] + 1) % 3, -1
    found = laid(full(made).state(made), changed(made, category=category))
    assert found.is_full().tolist() == [False, False] + [True] * (N - 2)
    assert laid(full(changed(made, category=category)).state(changed(made, category=category)), made).ring[0, 0] == EMPTY


def test_what_moderators_decided_is_not_remembered(tmp_path: Path) -> None:
    """Neither under a decision, nor after one was withdrawn."""
    made = table(tmp_path, N)
    verified = made.targets.is_verified.copy()
    verified[0, 0] = True
    decided = changed(made, is_verified=verified)
    assert "r0" not in full(decided).state(decided).refs
    for before, after in ((made, decided), (decided, made)):
        assert laid(full(before).state(before), after).is_full().tolist() == [False] + [True] * (N - 1)


def test_histories_of_another_length_keep_the_newest(tmp_path: Path) -> None:
    """Shortened they stay full, lengthened they fill up first."""
    made = table(tmp_path, N)
    history = full(made)
    history.ring[:] = torch.tensor([0, 1, 2])
    kept = history.state(made)
    assert laid(kept, made, 2).ring[0].tolist() == [1, 2]
    assert laid(kept, made, 5).ring[0].tolist() == [EMPTY, EMPTY, 0, 1, 2]


@pytest.mark.parametrize("n_classes", [2, 8, 1000, 14_000, 2**15])
def test_a_row_takes_at_most_32_bytes(tmp_path: Path, n_classes: int) -> None:
    """In memory and in the file, for any number of classes that two bytes can tell apart, the last one too."""
    made = table(tmp_path, N)
    made = changed(made, classes=tuple(f"c{at:05}" for at in range(n_classes)), category=np.full(N, n_classes - 1))
    history, memory = full(made, MAX_HISTORY), Largest(N, n_classes, 0.5, CPU)
    last = torch.full((n_classes,), -torch.inf)
    last[-1] = 0.0
    memory.update(torch.arange(N), last.expand(N, -1).clone())
    assert history.ring.nbytes <= 32 * N and memory.classes.nbytes + memory.p.nbytes <= 32 * N
    assert history.certainty(torch.arange(N))[0].tolist() == [n_classes - 1] * N == memory.classes[:, 0].tolist()
    assert all(one.state(made).row_bytes <= 32 and len(one.state(made)) == N for one in (history, memory))


def without(name: str) -> Damage:
    """A file that lacks this array."""
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    "damage",
    [
        without("about"),
        without("entries"),
        without("n_of_label"),
        lambda tensors: tensors | {"about": tensors["about"][:-9]},
        lambda tensors: tensors | {"about": np.frombuffer(b'{"format": "other"}', np.uint8)},
        lambda tensors: tensors | {"about": np.frombuffer(b"[]", np.uint8)},
        lambda tensors: tensors | {"entries": tensors["entries"][1:]},
        lambda tensors: tensors | {"entries": tensors["entries"].astype(np.float32)},
        lambda tensors: tensors | {"entries": tensors["entries"] + 3},
        lambda tensors: tensors | {"n_of_label": -tensors["n_of_label"]},
        lambda tensors: tensors | {"n_of_label": tensors["n_of_label"] + 1},
        lambda tensors: tensors | {"p": tensors["p"] * np.float16(np.nan)},
        lambda tensors: tensors | {"p": tensors["p"] + np.float16(1)},
        lambda tensors: tensors | {"p": tensors["p"][:, 1:]},
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, damage: Damage) -> None:
    """With its name and what to do (fault 48)."""
    made, files = table(tmp_path, N), FileStore(tmp_path / "files")
    kept = files.get(state.save(files, remembered(made).state(made)), state.SUFFIX)
    sha256 = files.put(tensors_of(damage(read_tensors(kept))), state.SUFFIX)
    with pytest.raises(InputError, match=rf"{sha256}.* holds no state of a fit: .*train again"):
        state.load(files, sha256)


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    """Bytes that do not match their sha256, no safetensors at all, and no file (fault 48)."""
    made, files = table(tmp_path, N), FileStore(tmp_path / "files")
    sha256 = state.save(files, full(made).state(made))
    path = files.path(sha256, state.SUFFIX)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        state.load(files, sha256)
    with pytest.raises(InputError, match="holds no state"):
        state.load(files, files.put(b"nothing", state.SUFFIX))
    with pytest.raises(NotFoundError):
        state.load(files, "0" * 64)


def test_a_resumed_objective_equals_one_that_never_stopped(tmp_path: Path) -> None:
    """Without a warm-up, which it has behind it: same labels, same choice, same histories."""
    made, rng = table(tmp_path, N), np.random.default_rng(0)
    wanted = made.wanted(rows(N))
    seen = [(torch.from_numpy(rng.integers(2, size=N)), torch.from_numpy(rng.random(N))) for _ in range(6)]
    whole, first, second = (Selfie(made, rows(N), replace(SELFIE, selfie_warmup=n)) for n in (2, 2, 0))
    found = []
    for epoch, (predicted, losses) in enumerate(seen, 1):
        whole.begin(epoch)
        found.append(whole.refurbish(wanted, predicted, losses))
    for epoch, (predicted, losses) in enumerate(seen[:4], 1):
        first.begin(epoch)
        first.refurbish(wanted, predicted, losses)
    second.resume(first.state())
    for epoch, (predicted, losses) in enumerate(seen[4:], 1):
        second.begin(epoch)
        labels, used = second.refurbish(wanted, predicted, losses)
        assert torch.equal(labels, found[epoch + 3][0]) and torch.equal(used, found[epoch + 3][1])
    assert torch.equal(second.history.ring, whole.history.ring) and torch.equal(second.corrected, whole.corrected)


def test_what_was_remembered_of_candidates_is_found_by_class(tmp_path: Path) -> None:
    """In another order of the candidates; a class that is none any longer is forgotten, a new one starts empty."""
    made, rows = table(tmp_path, N), torch.arange(N)
    first, second = (Memory(torch.tensor([one] * N, dtype=torch.int16), 0.5) for one in ([2, 0], [1, 2]))
    first.update(rows, torch.tensor([[0.3, 0.2, 0.5]]).log().expand(N, 3))
    second.resume(made, first.state(made))
    assert torch.equal(second.p, torch.tensor([[0.0, 0.25]], dtype=torch.float16).expand(N, 2))


def test_a_resumed_memory_equals_one_that_never_stopped(tmp_path: Path) -> None:
    """The running means go on where they were."""
    made, rng = table(tmp_path, N), torch.Generator().manual_seed(1)
    whole, second = remembered(made), Largest(N, 3, 0.7, CPU)
    second.resume(made, whole.state(made))
    log_probs = torch.log_softmax(torch.randn(N, 3, generator=rng), 1)
    for ours, theirs in zip(second.update(torch.arange(N), log_probs), whole.update(torch.arange(N), log_probs), strict=True):
        assert torch.equal(ours, theirs)


def test_full_histories_speak_already_in_the_warm_up(tmp_path: Path) -> None:
    """They refurbish, and untrained predictions do not push them out; the others warm up as ever."""
    made = table(tmp_path, N)
    history = full(made)
    history.ring[:] = ((torch.from_numpy(made.targets.category) + 1) % 3)[:, None].to(history.ring)
    history.ring[6:, 0] = EMPTY
    objective = Selfie(made, rows(N), SELFIE)
    objective.resume(history.state(made))
    objective.begin(1)
    given = torch.from_numpy(made.targets.category)
    labels, used = objective.refurbish(made.wanted(rows(N)), given, torch.zeros(N))
    assert torch.equal(labels[:6], (given[:6] + 1) % 3) and torch.equal(labels[6:], given[6:]) and used.all()
    assert torch.equal(objective.history.ring[:6], history.ring[:6])
    assert torch.equal(objective.history.ring[6:, -1].long(), given[6:])


@pytest.mark.parametrize("config", [SELFIE, EARLY])
def test_a_resumed_fit_learns_otherwise_and_repeats_itself(tmp_path: Path, config: TrainConfig) -> None:
    """Its weights differ from a fresh fit's, and are the same from the same state, through a file."""
    made, files = table(tmp_path), FileStore(tmp_path / "files")
    made = changed(made, category=np.where(np.arange(48) % 6 == 0, (made.targets.category + 1) % 3, made.targets.category))
    fresh = loop.fit(made, rows(48), rows(0), config=config)
    sha256 = state.keep(files, fresh.objective.state())
    assert sha256 is not None
    again = [loop.fit(made, rows(48), rows(0), config=config, state=state.load(files, sha256)) for _ in range(2)]
    weights = [one.detector.category.leaf.weight for one in (fresh, *again)]
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[2])


def test_a_state_of_another_recipe_is_left_alone(tmp_path: Path) -> None:
    """Recipes may change between runs; those without a memory have no state."""
    made, train = table(tmp_path, N), rows(N)
    selfie, early = Selfie(made, train, SELFIE), Refurbish(made, train, EARLY)
    selfie.resume(remembered(made).state(made))
    early.resume(full(made).state(made))
    assert not selfie.history.is_full().any() and not early.memory.p.any()
    silent = (CrossEntropy(), Refurbish(made, train, replace(EARLY, early_learning=0.0)))
    for objective in silent:
        objective.resume(remembered(made).state(made))
        assert objective.state() is None and state.keep(FileStore(tmp_path), objective.state()) is None


def noted(workspace: Workspace, report: dict[str, Any], ends: str | None = "refused") -> int:
    """A run with this report."""
    with workspace.db.write() as session:
        run_id = registry.start_run(
            session, kind="retrain", snapshot_id=None, trigger="t", config={}, device="cpu", n_corrections=0, now=NOW
        )
        if ends:
            registry.finish_run(session, run_id, state=ends, report=report, n_seconds=1.0, now=NOW)
    return run_id


def test_a_run_goes_on_from_the_newest_ended_one_that_kept_a_state(tmp_path: Path, sqlite_workspace: Workspace) -> None:
    """Failed and running ones are passed over."""
    made, files = table(tmp_path / "made", N), sqlite_workspace.files
    assert state.carried(sqlite_workspace) == state.Carried(None, None)
    noted(sqlite_workspace, {state.REPORT_KEY: state.keep(files, remembered(made).state(made))})
    run_id = noted(sqlite_workspace, {state.REPORT_KEY: state.keep(files, full(made).state(made))})
    noted(sqlite_workspace, {"error": "lost"}, "failed")
    noted(sqlite_workspace, {}, None)
    found = state.carried(sqlite_workspace)
    assert found.state is not None and found.state.kind == "selfie"
    assert found.report is not None and (found.report["run_id"], found.report["n_listings"]) == (run_id, N)


def test_a_state_that_cannot_be_read_does_not_stop_a_run(sqlite_workspace: Workspace) -> None:
    """It starts without, and says so (fault 48)."""
    noted(sqlite_workspace, {state.REPORT_KEY: "0" * 64})
    found = state.carried(sqlite_workspace)
    assert found.state is None and found.report is not None and "is not in" in found.report["error"]
