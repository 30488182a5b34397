"""One step of a fit: gradients of a batch, whole, shared among processes, or in halves once memory is short.

A batch in parts goes through the branches part by part; heads and objective then see all of it at once, and their gradient
goes back into the branches part by part. So every recipe has the loss of the whole batch, also where it compares the rows of
a batch with each other, and what it remembers of each listing is the same in all processes. The price is that every process
computes the heads of the whole batch.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from curation import telemetry
from curation.errors import ConfigError, InputError, shorten
from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.data import Rows, Table
from trainer.draws import OfWhole
from trainer.model import Detector, Seen
from trainer.objective import Objective, autocast
from trainer.processes import Processes

MAX_GRADIENT = 5.0

log = telemetry.logger("fit")


class NotFiniteError(InputError):
    """A loss or a gradient became NaN or infinite; no model is kept."""


def finite(value: Tensor, table: Table, rows: Rows, *, what: str = "loss", rates: str = "the rates") -> float:
    """What a batch of these rows gave. Raises NotFiniteError naming their listings, and the rates that may be too high."""
    found = value.item()
    if not math.isfinite(found):
        refs = [table.refs[row] for row in rows]
        raise NotFiniteError(
            f"the {what} became {found} on a batch of {len(rows)} listings, {shorten(refs, 400)}; "
            f"no model was kept, look at these listings or lower {rates}"
        )
    return found


class Steps:
    """The steps of one fit."""

    def __init__(
        self,
        detector: Detector,
        table: Table,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        processes: Processes,
    ) -> None:
        """Raises ConfigError where a compiled step is asked of several processes."""
        if config.compile and processes.n > 1:
            raise ConfigError(f"compile=true cannot be shared by {processes.n} processes; leave it out, or start one process")
        self.detector, self.table, self.objective, self.optimizer = detector, table, objective, optimizer
        self.config, self.processes = config, processes
        self.n_parts, self._is_asked = 1, False
        self._look: Callable[[Batch], Seen] = torch.compile(detector.look, dynamic=True) if config.compile else detector.look
        heads = [detector.category, *([] if detector.auxiliary is None else [detector.auxiliary])]
        self._heads = {id(value) for head in heads for value in head.parameters()}
        self.draws = _generator(table.device)

    draws: torch.Generator
    """What masks are drawn by."""

    n_parts: int
    """In how many parts this process looks at a batch of its own."""

    def __call__(self, rows: Rows) -> float:
        """Take a step; the loss of these rows before it. Raises NotFiniteError naming them, ConfigError out of memory."""
        found = self._gradients(rows)
        trained = [value for value in self.detector.parameters() if value.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT)
        finite(norm, self.table, rows, what="gradient's norm")
        self.optimizer.step()
        return found

    def _gradients(self, rows: Rows) -> float:
        """In halves where the whole did not fit, from this step on."""
        before = self.draws.get_state()
        while True:
            self._is_asked = False
            try:
                return self._computed(rows)
            except (RuntimeError, MemoryError) as error:
                if not _is_short(error):
                    raise
                self._halve(len(rows), error)
            self.draws.set_state(before)
            if self._is_asked:
                self.objective.undo()

    def _halve(self, n_rows: int, error: Exception) -> None:
        """Raises ConfigError where that was done before, or where several processes would have to do it together."""
        if self.n_parts > 1 or self.processes.n > 1 or n_rows < 2:
            how = "in halves" if self.n_parts > 1 else f"in {self.processes.n} processes"
            raise ConfigError(
                f"a batch of {n_rows} listings, looked at {how}, needs more memory than {self.table.device} has: "
                f"{shorten(str(error), 160)}; set batch to {max(1, self.config.batch // 2)} (--set batch=…), or more processes"
            ) from error
        self.n_parts = 2
        self.optimizer.zero_grad(set_to_none=True)
        if self.table.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory: batches are looked at in halves from now on", batch=n_rows, error=shorten(str(error), 160))

    def _computed(self, rows: Rows) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        if self.n_parts == 1 and self.processes.n == 1:
            with autocast(self.table.device, self.config.bf16):
                return self._backward(self._look(self.table.batch(rows)), rows)
        found = self._in_parts(rows, self._parts(len(rows)))
        self._add_gradients()
        return found

    def _backward(self, seen: Seen, rows: Rows) -> float:
        self._is_asked = True
        value = self.objective(self.detector, seen, self.table.wanted(rows))
        found = finite(value, self.table, rows)
        value.backward()  # type: ignore[no-untyped-call]
        return found

    def _parts(self, n_rows: int) -> list[slice]:
        """What this process looks at, one after the other."""
        if self.n_parts == 1:
            return [self.processes.share(n_rows)]
        return [slice(0, n_rows // 2), slice(n_rows // 2, n_rows)]

    def _in_parts(self, rows: Rows, parts: Sequence[slice]) -> float:
        """Several parts are looked at twice: the first time nothing is kept but what the heads see."""
        begun, is_one = self.draws.get_state(), len(parts) == 1
        with torch.set_grad_enabled(is_one):
            looked = [self._seen(rows, part, begun) for part in parts]
        whole = [self._leaf([_tensors(seen)[at] for seen in looked], len(rows)) for at in range(len(_tensors(looked[0])))]
        with autocast(self.table.device, self.config.bf16):
            found = self._backward(self._whole(looked, whole, len(rows)), rows)
        for part, seen in zip(parts, looked, strict=True):
            again = seen if is_one else self._seen(rows, part, begun)
            grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in whole]
            torch.autograd.backward(_tensors(again), [grad[part] for grad in grads])
        return found

    def _seen(self, rows: Rows, part: slice, begun: Tensor) -> Seen:
        """What the branches make of a part; its draws are those of the whole batch."""
        self.draws.set_state(begun)
        with autocast(self.table.device, self.config.bf16), OfWhole(len(rows), part):
            return self.detector.look(self.table.batch(rows[part]))

    def _leaf(self, parts: list[Tensor], n_rows: int) -> Tensor:
        """All rows of the batch, as if they were inputs."""
        return self.processes.gathered(torch.cat(parts), n_rows).requires_grad_()

    def _whole(self, looked: Sequence[Seen], vectors: Sequence[Tensor], n_rows: int) -> Seen:
        joint, *views = vectors
        there = [self.processes.gathered(torch.cat([seen.views[name][1] for seen in looked]), n_rows) for name in looked[0].views]
        return Seen(joint, dict(zip(looked[0].views, zip(views, there, strict=True), strict=True)))

    def _add_gradients(self) -> None:
        """Of the branches: each process has those of its share. The heads have seen all, and differ in the last bits at most."""
        n = self.processes.n
        if n == 1:
            return
        grads = []
        for value in self.detector.parameters():
            if value.requires_grad:
                value.grad = torch.zeros_like(value) if value.grad is None else value.grad
                grads.append(value.grad.div_(n) if id(value) in self._heads else value.grad)
        self.processes.add_all(grads)


def _is_short(error: Exception) -> bool:
    """Whether memory ended: on a processor torch says so by a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator: " in str(error)


def _tensors(seen: Seen) -> list[Tensor]:
    """The joint embedding, and the vectors of the auxiliary heads: what gradients go back through."""
    return [seen.joint, *(vector for vector, _ in seen.views.values())]


def _generator(device: torch.device) -> torch.Generator:
    """What masks are drawn by."""
    if device.type != "cuda":
        return torch.default_generator
    return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
