"""A model's categories as numbers: the seller's own word is one of them where the violations are asked with it."""

from collections.abc import Sequence

from curation.types import PATH_SEPARATOR


class Kinds:
    """0 = no category, or one under a root that the model does not know; then its classes, then their roots."""

    def __init__(self, classes: Sequence[str]) -> None:
        roots = [path.split(PATH_SEPARATOR)[0] for path in classes]
        names = dict.fromkeys(roots)
        self._of_root = {name: 1 + len(classes) + at for at, name in enumerate(names)}
        self._of_class = {path: 1 + at for at, path in enumerate(classes)}
        self.root_of = [self._of_root[name] for name in roots]  #: (K,) number of each class's root

    def __len__(self) -> int:
        return 1 + len(self._of_class) + len(self._of_root)

    def of(self, path: str | None) -> int:
        """The number of this category; of its root where the model has no such class, 0 where it knows neither."""
        if not path:
            return 0
        return self._of_class.get(path, self._of_root.get(path.split(PATH_SEPARATOR)[0], 0))
