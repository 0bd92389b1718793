"""The local, append-only metrics file of a run, which needs no account and loses no step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from tti.durable import append_line


class MetricsFile(Logger):
    """Appends one JSON object per line, ``{"step": ..., "<metric>": ...}``, to ``metrics.jsonl`` in ``folder``.

    Nothing is ever rewritten. A run that was killed and resumed writes the steps since its last checkpoint twice, with
    equal values; ``tti.runs.Run.metrics`` keeps the last. A line cut short by a kill is terminated here, and skipped
    there.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.jsonl"

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append ``metrics`` at an optimizer ``step``."""
        append_line(self.path, {"step": step, **metrics})

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the run folder holds the whole configuration."""
