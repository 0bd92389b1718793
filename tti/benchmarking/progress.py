"""Progress of a benchmark on standard error: a bar in a terminal, otherwise a line per activity."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield the items while a bar shows how many are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(description, highlight=False, soft_wrap=True)
    yield from track(items, description, console=console, transient=True, disable=not console.is_terminal)
