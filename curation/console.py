"""What all commands share: the workspace they open, `--json`, and examples in the help."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from curation.settings import Settings
    from curation.store.workspace import Workspace


@dataclass
class Session:
    """One run of the command line: where its settings come from, and what it opened."""

    config: Path | None = None
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def settings(self, **flags: Any) -> "Settings":
        from curation import settings

        return settings.load(self.config, **{**self.flags, **flags})

    def workspace(self, **flags: Any) -> "Workspace":
        """Settings, database and files; the schema must be current. Closed when the command ends."""
        from curation.store.workspace import Workspace

        workspace = Workspace.open(self.settings(**flags))
        click.get_current_context().call_on_close(workspace.close)
        return workspace


pass_session = click.make_pass_decorator(Session, ensure=True)


def command(name: str, *, example: str, **attrs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with `--json` (passed as `as_json`) and an example in its help."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
        made: Callable[..., click.Command] = click.command(name, epilog=f"\b\nExample:\n  {example}", **attrs)
        found: click.Command = made(option(function))
        return found

    return wrap


def emit(result: Mapping[str, Any], *, as_json: bool, human: str | None = None) -> None:
    """Print the result: one JSON object with `--json`, else `human` or one line a key."""
    if as_json:
        click.echo(json.dumps(result, default=_plain, allow_nan=False, ensure_ascii=False))
    elif human is not None:
        click.echo(human)
    else:
        width = max((len(key) for key in result), default=0)
        for key, value in result.items():
            click.echo(f"{key.replace('_', ' '):<{width}}  {_shown(value)}")


def table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    """Rows as aligned text columns under a header."""
    cells = [list(header), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


class Progress:
    """A progress line on stderr: redrawn on a terminal, one line per 10 % elsewhere, silent with `quiet`."""

    def __init__(self, label: str, total: int | None = None, *, quiet: bool = False) -> None:
        self.label, self.total, self.quiet = label, total, quiet
        self.n = 0
        self._shown = 0.0
        self._live = sys.stderr.isatty()

    def advance(self, n: int = 1) -> None:
        self.n += n
        share = self.n / self.total if self.total else self.n / 10_000
        if self.quiet or share - self._shown < (0.01 if self._live else 0.1):
            return
        self._shown = share
        text = f"{self.label}: {self.n:,}" + (f" of {self.total:,} ({share:.0%})" if self.total else "")
        click.echo(("\r" if self._live else "") + text, err=True, nl=not self._live)

    def step(self) -> None:
        """One more, never beyond the total: where that is an estimate the line must not claim more than all."""
        if self.total is None or self.n < self.total:
            self.advance()

    def done(self) -> None:
        if not self.quiet:
            click.echo(("\r" if self._live else "") + f"{self.label}: {self.n:,} done", err=True)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path | set | frozenset | tuple):
        return str(value) if isinstance(value, Path) else sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items()) or "-"
    return "-" if value is None else str(value)
