"""Optional protocols of loggers beyond Lightning's interface; found, not registered."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Summarizing(Protocol):
    """A logger that takes the contents of ``summary.json`` once, when the run has finished."""

    def log_summary(self, summary: Mapping[str, Any]) -> None: ...
