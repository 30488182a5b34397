"""Which objective a run minimises."""

from trainer.config import TrainConfig
from trainer.data import Rows, Table
from trainer.objective import CrossEntropy, Objective
from trainer.refurbish import Refurbish
from trainer.selfie import Selfie


def objective(table: Table, train: Rows, validation: Rows, config: TrainConfig) -> Objective:
    """The objective of `config.recipe` over the training rows; the labels of validation rows are not learnt.

    What moderators decided about them tells our recipe how far to trust its probes.
    """
    if config.recipe == "refurbish":
        return Refurbish(table, train, config, validation)
    return Selfie(table, train, config) if config.recipe == "selfie" else CrossEntropy()
