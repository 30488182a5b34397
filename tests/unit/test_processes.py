"""A fit that several processes share, that runs out of memory, or that loses its GPU; and what chance draws for parts."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from curation.errors import ConfigError, InputError
from tests import pair
from tests.unit.test_trainer import CONFIG, rows, table
from trainer import loop, processes
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.draws import OfWhole
from trainer.processes import ALONE, Processes
from trainer.search.gradients import DeviceLostError, answering
from trainer.step import Steps

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Table, TrainConfig, pair.Ended]]:
    """Every case, and how it ends in one process that has all it needs."""
    torch.set_num_threads(1)
    found = pair.tables(tmp_path_factory.mktemp("alone"))
    return {name: (made, config, pair.fitted(made, config)) for name, config, made in found}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes memory end so many times, each time after the loss was computed and remembered."""

    def often(n: int) -> None:
        whole, left = Steps._backward, iter([True] * n)

        def ending(steps: Steps, *args: object) -> float:
            found = whole(steps, *args)  # type: ignore[arg-type]
            if next(left, False):
                raise FULL
            return found

        monkeypatch.setattr(Steps, "_backward", ending)

    return often


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes end with."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.pair", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", pair.CASES)
def test_two_processes_end_as_one(cases: dict[str, tuple[Table, TrainConfig, pair.Ended]], together: Path, name: str) -> None:
    """Weights, predictions and memory, dropout and hidden modalities included; in both processes to the bit.

    Before a normalisation a bias has no gradient but rounding, which Adam magnifies: of cells the answers are compared.
    """
    alone, first, second = cases[name][2], *(dict(np.load(together / str(rank) / f"{name}.npz")) for rank in range(2))
    told = ("category", "violation", "losses") if name == "cells" else tuple(alone)
    assert pair.difference(first, second) == 0
    bar = 1e-4 if name == "cells" else 1e-5
    assert pair.difference({key: alone[key] for key in told}, {key: first[key] for key in told}) < bar


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_go_on_from_what_the_first_one_kept(together: Path) -> None:
    """Both end where two that never stopped ended, and with the same bits as each other (fault 47)."""
    first, second = (dict(np.load(together / str(rank) / f"{pair.RESUMED}.npz")) for rank in range(2))
    never = dict(np.load(together / "0" / "refurbish.npz"))
    assert pair.difference(first, second) == 0 and pair.difference(first, never) == 0


@pytest.mark.parametrize("name", [name for name in pair.CASES if name != "cells"])
def test_halves_end_as_the_whole(
    cases: dict[str, tuple[Table, TrainConfig, pair.Ended]], short: Callable[[int], None], name: str
) -> None:
    """A batch for which memory was short comes again in halves: the same loss, and nothing is remembered twice (fault 46)."""
    made, config, whole = cases[name]
    short(1)
    assert pair.difference(whole, pair.fitted(made, config)) < 1e-5


def test_memory_that_ends_is_noted_once_and_explained_twice(tmp_path: Path, short: Callable[[int], None]) -> None:
    """The fit says that it went on in halves; where halves do not fit either, what to set (fault 46)."""
    made = table(tmp_path, 24)
    short(1)
    assert loop.fit(made, rows(24), rows(0), config=replace(CONFIG, epochs=1)).n_parts == 2
    short(2)
    with pytest.raises(ConfigError, match=r"a batch of 16 listings, looked at in halves, .*than cpu .* set batch to 8"):
        loop.fit(made, rows(24), rows(0), config=replace(CONFIG, epochs=1))


def test_an_allocation_that_fails_on_a_processor_is_memory_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its allocator raises another error than a GPU's; the fit goes on in halves, another error ends it (fault 46)."""
    whole, asked = Steps._backward, iter([1 << 60])

    def greedy(steps: Steps, *args: object) -> float:
        torch.empty(next(asked, 1))
        return whole(steps, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Steps, "_backward", greedy)
    made = table(tmp_path, 24)
    assert loop.fit(made, rows(24), rows(0), config=replace(CONFIG, epochs=1)).n_parts == 2
    assert "can't allocate memory" in capsys.readouterr().err
    asked = iter([-1])
    with pytest.raises(RuntimeError, match="negative dimension"):
        loop.fit(made, rows(24), rows(0), config=replace(CONFIG, epochs=1))


def test_processes_do_not_halve(tmp_path: Path, short: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would wait for the half that never comes."""
    monkeypatch.setattr(Processes, "added", lambda _, own: own)
    short(1)
    with pytest.raises(ConfigError, match="looked at in 2 processes"):
        loop.fit(table(tmp_path, 24), rows(24), rows(0), config=CONFIG, processes=Processes(0, 2))


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("CUDA error: unspecified launch failure"), RuntimeError("CUDA error: x")]
)
def test_a_gpu_that_is_gone_is_told_from_a_mistake(error: RuntimeError) -> None:
    """Whoever noticed it; any other RuntimeError stays what it is."""
    gone = pytest.raises(DeviceLostError, match=r"cuda stopped answering during run 3: .*; try again")
    with gone, answering(torch.device("cuda"), "run 3", "try again"):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), answering(torch.device("cuda"), "run 3"):
        raise RuntimeError("shapes do not fit")


def test_masks_are_those_of_the_whole_batch() -> None:
    """A part draws what its rows would have drawn."""
    drawn = []
    for part in (slice(0, 10), slice(3, 7)):
        torch.manual_seed(1)
        x = torch.ones(10, 3, 5)[part]
        with OfWhole(10, part):
            drawn.append((functional.dropout(x, 0.3), torch.rand(len(x), 1), functional.dropout1d(x, 0.4)))
    torch.manual_seed(1)
    whole = torch.ones(10, 3, 5)
    plain = functional.dropout(whole, 0.3), torch.rand(10, 1), functional.dropout1d(whole, 0.4)
    for all_rows, some, one in zip(*drawn, plain, strict=True):
        assert torch.equal(all_rows, one) and torch.equal(some, one[3:7])


@pytest.mark.parametrize("n_rows", [0, 1, 7, 256])
def test_shares_cover_a_batch(n_rows: int) -> None:
    """Each row once, in order, none longer than another by more than a row."""
    shares = [Processes(rank, 3).share(n_rows) for rank in range(3)]
    assert np.concatenate([np.arange(n_rows)[share] for share in shares]).tolist() == list(range(n_rows))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_processes_that_see_different_data_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A media folder that is not shared would train on other photos."""
    monkeypatch.setattr(Processes, "_of_all", lambda *_: [{"inputs": [1]}, {"inputs": [2]}])
    with pytest.raises(InputError, match=r"process 1 does not see what the first one sees: \{'inputs': \(\[1\], \[2\]\)\}"):
        Processes(0, 2).agree({"inputs": [1]})
    ALONE.agree({"inputs": [1]})


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear message before anything waits; so is a rank that is no number (fault 46)."""
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert processes.is_follower()
    refused = pytest.raises(ConfigError, match=r"4 processes were started for 2 GPUs; .*--nproc-per-node 2")
    with refused, processes.joined("auto", 60.0):
        pass
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match="RANK='first' is no number"):
        processes.is_follower()


def test_a_compiled_step_is_not_shared(tmp_path: Path) -> None:
    """Its draws cannot be cut."""
    with pytest.raises(ConfigError, match="compile=true cannot be shared by 2 processes"):
        loop.fit(table(tmp_path, 12), rows(12), rows(0), config=replace(CONFIG, compile=True), processes=Processes(0, 2))


def test_deterministic_is_asked_of_torch_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fit says which it wants; cuBLAS is told, unless somebody told it before."""
    monkeypatch.delenv(loop.CUBLAS[0], raising=False)
    made, config = table(tmp_path, 12), replace(CONFIG, epochs=1)
    plain = loop.fit(made, rows(12), rows(0), config=config)
    strict = loop.fit(made, rows(12), rows(0), config=replace(config, deterministic=True))
    assert torch.are_deterministic_algorithms_enabled() and os.environ[loop.CUBLAS[0]] == ":4096:8"
    assert strict.losses == plain.losses
    loop.settle(config)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_fit_learns_the_same(tmp_path: Path) -> None:
    """Where nothing is dropped by chance it ends where the plain one does."""
    made = table(tmp_path, 24)
    certain = replace(
        CONFIG, epochs=1, text_dropout=0.0, photo_dropout=0.0, hide_title=0.0, hide_description=0.0, hide_photos=0.0
    )
    plain, compiled = (
        loop.predict(loop.fit(made, rows(24), rows(0), config=replace(certain, compile=wanted)).detector, made, rows(24))[0]
        for wanted in (False, True)
    )
    assert np.abs(plain - compiled).max() < 1e-3
