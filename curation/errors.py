"""Every error Refurbish raises on purpose.

RefurbishError
 ├── InputError            the caller's data is wrong; nothing was changed
 │    ├── PayloadError     a Label Studio body that cannot be interpreted (it is quarantined)
 │    ├── RowError         one row of a catalog file (it lands in the rejects file)
 │    ├── ImageError       one photo that cannot be used (listed in the rejects file)
 │    └── ProbabilityError `pred_probs` or `labels` that no method may be run on
 ├── ConfigError           a setting is missing or contradicts another
 ├── DatabaseError         the database cannot be used as it is (away, newer, foreign)
 ├── NotFoundError         a name, id or sha256 that is not there
 ├── IntegrityError        stored bytes do not match their sha256
 ├── StaleLease            this worker no longer owns its job; its writes are refused
 └── LabelStudioError      Label Studio answered with an error, or not at all

Each message says what happened, shows the value (shortened) and what to do. The exit code
of the command line is the class attribute ``exit_code``.
"""

from collections.abc import Iterable


class RefurbishError(Exception):
    """Base of the tree; never raised itself."""

    exit_code = 1


class InputError(RefurbishError):
    """The caller's data is wrong; nothing was changed."""


class PayloadError(InputError):
    """An authentic Label Studio body that cannot be interpreted."""


class RowError(InputError):
    """One row of a catalog file is unusable."""

    def __init__(self, field: str, message: str, code: str = "unusable") -> None:
        super().__init__(message)
        self.field, self.code = field, code


class ImageError(InputError):
    """One photo is unusable."""


class ProbabilityError(InputError):
    """Labels or probabilities on which no method may be run."""


class ConfigError(RefurbishError):
    """A setting is missing or contradicts another."""

    exit_code = 2


class DatabaseError(RefurbishError):
    """The database cannot be used as it is."""

    exit_code = 75


class NotFoundError(RefurbishError):
    """A name, id or sha256 that is not there."""


class IntegrityError(RefurbishError):
    """Stored bytes do not match their sha256."""


class StaleLease(RefurbishError):
    """This worker no longer owns its job."""

    exit_code = 75


class LabelStudioError(RefurbishError):
    """Label Studio answered with an error, or not at all."""

    exit_code = 75


def shorten(value: object, limit: int = 80) -> str:
    """The value as shown in a message: at most `limit` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        text = f"<{type(value).__name__} that is too large to be shown>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def place(keys: Iterable[object], whole: str) -> str:
    """Where in a document something is wrong, its keys joined by dots as they can be shown; `whole` for the document itself."""
    return shorten(".".join(map(str, keys)), 120)[1:-1] or whole
