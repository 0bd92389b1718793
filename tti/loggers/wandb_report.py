"""A report as a W&B run, in the group of the runs that it compares: figures as images, the table as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
import wandb

from tti.configuration import digest


def publish(
    title: str,
    table: pd.DataFrame,
    figures: Mapping[str, Path],
    *,
    mode: Literal["online", "offline"],
    project: str,
    group: str,
    folder: Path,
) -> None:
    """Log ``table`` and ``figures`` under ``report/``; reports with equal title and group update the same W&B run.

    Args:
        title: name of the W&B run.
        table: one row per run.
        figures: image files by name.
        mode: W&B's mode.
        project: W&B's project.
        group: W&B's group.
        folder: where W&B keeps its files.
    """
    identifier = digest(f"report/{group}/{title}")
    with wandb.init(
        project=project,
        group=group,
        name=title,
        id=identifier,
        job_type="report",
        resume="allow",
        mode=mode,
        dir=folder,
    ) as run:
        images = {f"report/{name}": wandb.Image(str(path)) for name, path in figures.items()}
        run.log({"report/runs": wandb.Table(dataframe=table), **images})
