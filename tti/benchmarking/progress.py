"""How far a benchmark is, on the error stream: a bar in a terminal, a line an activity elsewhere."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(items: Sequence[T], description: str) -> Iterator[T]:
    """The items, while a bar shows how many are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(description, highlight=False, soft_wrap=True)
    yield from track(items, description, console=console, transient=True, disable=not console.is_terminal)
