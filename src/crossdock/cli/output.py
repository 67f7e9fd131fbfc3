"""How commands show what they found: tables for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# An id that is cut short cannot be copied: wide tables run on to the next line instead.
_TABLE_WIDTH = 240

_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


def show_rows(rows: Sequence[BaseModel], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """A table of these columns, or a JSON array with everything; `empty` says what to do when there is nothing."""
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    if not rows:
        _console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for row in rows:
        shown = row.model_dump(mode="json")
        table.add_row(*(escape(as_text(shown[column])) for column in columns))
    Console(highlight=False, width=max(_console.width, _TABLE_WIDTH)).print(table)


def show_one(view: BaseModel, *, as_json: bool, note: str | None = None) -> None:
    """One thing's fields below each other, or as a JSON object; `note` is for people."""
    shown = view.model_dump(mode="json")
    if as_json:
        print_json(shown)
        return
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        if value not in (None, [], {}, ""):
            first, *more = _lines(value)
            _console.print(f"[bold]{name.replace('_', ' '):<{width}}[/bold]  {escape(first)}", soft_wrap=True)
            for line in more:
                _console.print(f"{'':<{width}}  {escape(line)}", soft_wrap=True)
    if note:
        _console.print(f"\n{escape(note)}", soft_wrap=True)


def show_paragraph(text: str, *, indent: int = 0) -> None:
    """Text for people, in lines that fit the terminal."""
    _console.print(Padding(escape(text), (0, 0, 0, indent), expand=False))


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """The value as JSON on standard output, and nothing else there."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(message: str) -> None:
    """One line on standard error."""
    _errors.print(f"[bold red]error:[/bold red] {escape(' '.join(message.split()))}", soft_wrap=True)


def _lines(value: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """A field's value in lines: what is in an object below each other, each object of a list behind a dash."""
    if isinstance(value, Mapping) and value:
        return [line for name, one in value.items() for line in _member(name, one)]
    if _holds_objects(value):
        return [line for one in value for line in _indented(_lines(one), first="- ")]
    return [as_text(value)]


def _member(name: str, value: Any) -> list[str]:  # noqa: ANN401 - any JSON
    if (isinstance(value, Mapping) and value) or _holds_objects(value):
        return [f"{name}:", *_indented(_lines(value), first="  ")]
    return [f"{name}: {as_text(value)}"]


def _holds_objects(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value)


def _indented(lines: Sequence[str], *, first: str) -> list[str]:
    return [f"{'  ' if number else first}{line}" for number, line in enumerate(lines)]


def as_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    """A value of a view in a table's cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(as_text, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {as_text(one)}" for name, one in value.items()) or "-"
    return str(value)
