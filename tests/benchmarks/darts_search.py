"""DARTS' search steps as its authors' code takes them, first and second order, on `darts_port`: what ours is compared with."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.darts_port import Port
from trainer.search.examples import task_loss
from trainer.search.loop import Search


class PortSearch:
    """Search steps of the port, on the rows and with the weights of one of our searches.

    The architecture's batch comes from a fresh loader iterator each step, two worker processes each time (`has_loader`), the
    network's from one that is kept; without a loader both are taken from memory.
    """

    def __init__(self, ours: Search, is_second_order: bool = False, has_loader: bool = True) -> None:
        self.network = nn.ModuleDict({"port": Port(ours.supernet), "embed": copy.deepcopy(ours.network["embedded"])})
        self.device, self.is_second_order, self.has_loader = ours.device, is_second_order, has_loader
        self.alphas = list(self.network["port"].architecture.parameters())
        searched = {id(value) for value in self.alphas}
        self.weights = [value for value in self.network.parameters() if id(value) not in searched]
        self.sgd = torch.optim.SGD(self.weights, 0.1, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam(self.alphas, 6e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        self.held = TensorDataset(ours.rows.tokens.cpu(), ours.rows.labels.cpu())
        self.batch, is_gpu = ours.config.batch, self.device.type == "cuda"
        self.loader = DataLoader(self.held, self.batch, shuffle=True, num_workers=2, pin_memory=is_gpu)
        self.kept = iter(())

    def loss(self, batch: list[Tensor]) -> Tensor:
        """Of one batch of tokens and labels."""
        tokens, labels = (part.to(self.device) for part in batch)
        return task_loss(self.network["port"](self.network["embed"](tokens)[0]), labels)

    def fresh(self) -> list[Tensor]:
        """A batch of the other half."""
        return next(iter(self.loader)) if self.has_loader else list(self.held[torch.randperm(len(self.held))[: self.batch]])

    def kept_batch(self) -> list[Tensor]:
        """The next batch of this half."""
        found = next(self.kept, None)
        if found is None:
            self.kept = iter(DataLoader(self.held, self.batch, shuffle=True))
            found = next(self.kept)
        return found

    def advance(self) -> None:
        """One architecture step and one weight step."""
        train, valid = self.kept_batch(), self.fresh()
        self.adam.zero_grad()
        if self.is_second_order:
            self.unrolled(train, valid)
        else:
            self.loss(valid).backward()
        self.adam.step()
        self.sgd.zero_grad()
        self.loss(train).backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.sgd.step()

    def unrolled(self, train: list[Tensor], valid: list[Tensor], rate: float = 0.1) -> None:
        """Gradients after a virtual weight step, its second-order part by finite differences (DARTS, equations 7 and 8)."""
        virtual = copy.deepcopy(self.network)
        alphas = list(virtual["port"].architecture.parameters())
        searched = {id(value) for value in alphas}
        moved = [value for value in virtual.parameters() if id(value) not in searched]
        grads = torch.autograd.grad(self.loss(train), self.weights)
        with torch.no_grad():
            for value, weight, grad in zip(moved, self.weights, grads, strict=True):
                momentum = self.sgd.state[weight].get("momentum_buffer")
                step = grad + 3e-4 * weight if momentum is None else grad + 3e-4 * weight + 0.9 * momentum
                value.sub_(rate * step)
        kept, self.network = self.network, virtual
        loss = self.loss(valid)
        self.network = kept
        found = torch.autograd.grad(loss, [*alphas, *moved], allow_unused=True)
        direct, along = found[: len(alphas)], found[len(alphas) :]
        distance = 1e-2 / torch.cat([grad.flatten() for grad in along]).norm()
        plus = self.shifted(train, along, distance)
        minus = self.shifted(train, along, -2 * distance)
        self.move(along, distance)
        for alpha, first, above, below in zip(self.alphas, direct, plus, minus, strict=True):
            alpha.grad = None if first is None else first - rate * (above - below) / (2 * distance)

    def shifted(self, batch: list[Tensor], along: tuple[Tensor, ...], by: Tensor) -> tuple[Tensor | None, ...]:
        """Move the weights; gradients of the architecture weights there."""
        self.move(along, by)
        return torch.autograd.grad(self.loss(batch), self.alphas, allow_unused=True)

    @torch.no_grad()
    def move(self, along: tuple[Tensor, ...], by: Tensor) -> None:
        """Move the weights by so much of these."""
        for value, grad in zip(self.weights, along, strict=True):
            value.add_(grad * by)
