"""A report as a W&B run: its figures as images, its table as a table, beside the runs that it compares."""

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
    """Log ``table`` and ``figures`` under ``report/``; of the same title and group, into the same run again.

    Args:
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
