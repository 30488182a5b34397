"""Several processes that fit one detector together, as `torchrun` starts them; one process alone needs none of it.

Every process reads the same catalog, draws the same order from the same seed and looks at its share of each batch. What the
branches make of the shares is gathered, so that loss and memory are those of the whole batch in every process, whatever the
recipe; gradients are added up. Only the first process writes to the database, the file store and the console.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError, InputError, RefurbishError, shorten

N_PROCESSES, RANK, LOCAL_RANK, N_LOCAL = "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
"""What `torchrun` tells each process by its environment."""


class ProcessLostError(RefurbishError):
    """One of several processes died, or does not answer."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that work together. Each method is called by all of them, in the same order."""

    rank: int = 0  #: from 0
    n: int = 1
    n_here: int = 1  #: on this machine

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def threads(self, n_threads: int) -> int:
        """How many of these threads this process may use, at least one."""
        return max(1, n_threads // self.n_here)

    def share(self, n_rows: int) -> slice:
        """Which of the rows of a batch are its own; shares differ by one row at most, and some are empty when rows are few."""
        return slice(self.rank * n_rows // self.n, (self.rank + 1) * n_rows // self.n)

    def gathered(self, own: Tensor, n_rows: int) -> Tensor:
        """(n_rows, …) of all processes in their order, from the rows (b, …) of this one; without gradient."""
        if self.n == 1:
            return own.detach()
        found = own.new_zeros(n_rows, *own.shape[1:])
        found[self.share(n_rows)] = own.detach()
        return self.added(found)

    def added(self, own: Tensor) -> Tensor:
        """The sum over all processes, of the same bits in each; written over the tensor given."""
        if self.n > 1:
            with self._answering():
                torch.distributed.all_reduce(own)
        return own

    def add_all(self, own: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message for each dtype."""
        if self.n == 1:
            return
        for dtype in dict.fromkeys(one.dtype for one in own):
            same = [one for one in own if one.dtype == dtype]
            total = self.added(torch.cat([one.flatten() for one in same]))
            sums = torch.split(total, [one.numel() for one in same])
            for one, found in zip(same, sums, strict=True):
                one.copy_(found.view_as(one))

    @property
    def adding(self) -> Callable[[Tensor], Tensor] | None:
        """`added` where there are several processes, else None."""
        return self.added if self.n > 1 else None

    def told(self, value: Any = None) -> Any:
        """What the first process says, of what JSON can say, in every process; the others' `value` is not looked at."""
        return value if self.n == 1 else json.loads(self.told_bytes(json.dumps(value).encode()))

    def told_bytes(self, value: bytes) -> bytes:
        """The same of bytes, as they are."""
        if self.n == 1:
            return value
        n_bytes = torch.tensor([len(value)])
        with self._answering():
            torch.distributed.broadcast(n_bytes, src=0)
            found = torch.zeros(int(n_bytes), dtype=torch.uint8)
            if self.is_first and value:
                found.copy_(torch.frombuffer(bytearray(value), dtype=torch.uint8))
            if len(found):
                torch.distributed.broadcast(found, src=0)
        return found.numpy().tobytes()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say which process waited in vain, and what to do."""
        try:
            yield
        except RuntimeError as error:
            raise ProcessLostError(
                f"process {self.rank} of {self.n} waited for the others in vain: {shorten(str(error), 200)}; see what the others "
                "say, then run it again: it goes on from its checkpoints. What only takes long needs a larger process_timeout_s"
            ) from error

    def agree(self, seen: Mapping[str, object]) -> None:
        """Raise InputError in every process unless all have the same values, which are small."""
        if self.n == 1:
            return
        found = self._of_all(seen)
        for rank, other in enumerate(found):
            differing = {name: (found[0][name], other[name]) for name in found[0] if other[name] != found[0][name]}
            if differing:
                raise InputError(
                    f"process {rank} does not see what the first one sees: {shorten(differing, 300)}; "
                    "give all processes the same data folder, database and version, and let no other run end meanwhile"
                )

    def _of_all(self, value: Mapping[str, object]) -> list[dict[str, Any]]:
        """What each process says, as JSON, in their order."""
        own = json.dumps(dict(value)).encode()
        lengths = self.added(torch.tensor([len(own) if rank == self.rank else 0 for rank in range(self.n)]))
        padded = torch.zeros(self.n, int(lengths.max()), dtype=torch.int32)
        padded[self.rank, : len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
        rows = zip(self.added(padded).tolist(), lengths.tolist(), strict=True)
        return [json.loads(bytes(row[:n])) for row, n in rows]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does it before the others, which find what it left in a cache."""
        if not self.is_first:
            self.told()
        yield
        if self.is_first:
            self.told()


ALONE = Processes()


def is_follower() -> bool:
    """Whether `torchrun` started this process as another than the first."""
    return _number(N_PROCESSES, 1) > 1 and _number(RANK, 0) > 0


@contextmanager
def joined(wanted: str, timeout_s: float) -> Iterator[Processes]:
    """The processes that `torchrun` started, as long as it lasts; this one alone where there is no other.

    `wanted`: auto, cpu or cuda. On GPUs each process takes the one of its number. `timeout_s`: how long one waits for the
    others, also while the first does alone what only it may do. Raises ConfigError where there are fewer GPUs than processes.
    """
    n = _number(N_PROCESSES, 1)
    if n == 1:
        yield ALONE
        return
    local, n_here = _number(LOCAL_RANK, 0), _number(N_LOCAL, 1)
    has_gpus = wanted != "cpu" and torch.cuda.is_available()
    if has_gpus:
        _take_gpu(local, n_here)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", timeout=timedelta(seconds=timeout_s))
    try:
        yield Processes(_number(RANK, 0), n, n_here)
    finally:
        torch.distributed.destroy_process_group()


def _take_gpu(local: int, n_here: int) -> None:
    n_gpus = torch.cuda.device_count()
    if n_here > n_gpus:
        raise ConfigError(
            f"{n_here} processes were started for {n_gpus} GPUs; "
            f"start torchrun with --nproc-per-node {max(1, n_gpus)}, or use --device cpu"
        )
    torch.cuda.set_device(local)


def _number(name: str, otherwise: int) -> int:
    told = os.environ.get(name, str(otherwise))
    try:
        return int(told)
    except ValueError as error:
        raise ConfigError(f"{name}={shorten(told)} is no number; start several processes with torchrun") from error
