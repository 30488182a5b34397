"""Loss and gradients of one batch: computed, or on an accelerator recorded once as a graph and played again.

A search step is thousands of small operations; on a GPU starting them one by one takes longer than doing them. A recorded
graph (CUDA graph) starts them all at once. It needs the same shapes and the same memory at every step: the batch is copied to
where the recorded one was, and the gradients appear where the recorded ones were.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from curation.errors import ConfigError, RefurbishError, shorten
from trainer.search.examples import Examples

N_REHEARSALS = 3
"""Times a batch is computed before it is recorded, so that libraries have made what they keep."""

Loss = Callable[[Examples], tuple[Tensor, Tensor]]
"""A batch → what is minimised, and what is told, both scalars."""


class DeviceLostError(RefurbishError):
    """The accelerator stopped answering."""

    exit_code = 75


class Gradients:
    """Called with a batch it leaves gradients at `wanted` and computes none for `resting`."""

    def __init__(self, loss: Loss, wanted: Sequence[nn.Parameter], resting: Sequence[nn.Parameter], is_recorded: bool) -> None:
        self.loss, self.wanted, self.resting, self.is_recorded = loss, wanted, resting, is_recorded
        self._graph: torch.cuda.CUDAGraph | None = None
        self._values = torch.zeros(2)

    def __call__(self, batch: Examples) -> tuple[float, float]:
        """What is minimised, and what is told."""
        if not self.is_recorded:
            return self._numbers(self._computed(batch))
        if self._graph is None:
            self._graph = self._record(batch)
        self._held.tokens.copy_(batch.tokens)
        self._held.labels.copy_(batch.labels)
        self._graph.replay()
        for value, grad in zip(self.wanted, self._grads, strict=True):
            value.grad = grad
        return self._numbers(self._values)

    def _computed(self, batch: Examples) -> Tensor:
        for value in self.wanted:
            value.grad = None
        with at_rest(self.resting):
            total, told = self.loss(batch)
            total.backward()  # type: ignore[no-untyped-call]
        return torch.stack([total.detach(), told.detach()])

    def _record(self, batch: Examples) -> torch.cuda.CUDAGraph:
        self._held = Examples(batch.tokens.clone(), batch.labels.clone())
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(N_REHEARSALS):
                self._computed(self._held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._values = self._computed(self._held)
        self._grads = [value.grad for value in self.wanted]
        return graph

    @staticmethod
    def _numbers(values: Tensor) -> tuple[float, float]:
        total, told = values.tolist()
        return total, told


@contextmanager
def at_rest(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Nothing is computed for the gradients of these."""
    rested = list(parameters)
    for value in rested:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in rested:
            value.requires_grad_(True)


GPU_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NCCL error")
"""What a plain RuntimeError says where a library of the GPU, and not torch, noticed that it is gone."""


@contextmanager
def answering(device: torch.device, doing: str, then: str = "begin again from the last saved state") -> Iterator[None]:
    """Say what to do when the device has too little memory (ConfigError) or stops answering (DeviceLostError): `then`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{doing} needs more memory than {device} has: {shorten(str(error), 160)}; take a smaller batch or width"
        ) from error
    except RuntimeError as error:
        if not isinstance(error, torch.AcceleratorError) and not any(words in str(error) for words in GPU_ERRORS):
            raise
        raise DeviceLostError(f"{device} stopped answering during {doing}: {shorten(str(error), 160)}; {then}") from error


def usable(device: torch.device | str) -> torch.device:
    """The device. Raises ConfigError where there is none such."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {shorten(str(device))} cannot be used: {shorten(str(error), 160)}; take cpu") from error
    return found
