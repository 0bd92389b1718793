"""``python -m tti.evaluate run=FOLDER``: the common evaluation of finished runs, into their ``evaluation/`` folders.

``hf=FOLDER data=…`` evaluates a language model that was not trained here.
"""

import glob
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig

from tti.command import command
from tti.evaluation.runner import CONSOLE, Runner, Trained, in_a_line, require_known
from tti.huggingface.foreign import named
from tti.runs import Run, commit, find
from tti.trust import packages


def chosen_runs(pattern: str, trust: tuple[str, ...] = ()) -> list[Run]:
    """The runs of a folder, below a folder, or that a glob matches; each a folder with a ``config.yaml``.

    Args:
        pattern: folder or glob.
        trust: see :class:`Run`.

    Raises:
        ValueError: there are none.
    """
    folders = [Path(found) for found in sorted(glob.glob(pattern))]  # noqa: PTH207 (Path.glob takes no absolute one)
    if not folders:
        raise ValueError(f"no such folder: {pattern} (from folder {Path.cwd()})")
    runs = [run for folder in folders if folder.is_dir() for run in _runs_in(folder)]
    chosen = {run.folder.resolve(): run for run in runs}.values() or find(folders[0])
    return [replace(run, trust=trust) for run in chosen]


def _runs_in(folder: Path) -> list[Run]:
    try:
        return find(folder)
    except ValueError:
        return []


def evaluate(config: DictConfig) -> Sequence[tuple[Trained, str]]:
    """Evaluate the runs, or the model from elsewhere; those that could not be, each with the reason.

    Raises:
        ValueError: there are no runs, or an unknown part is asked for.
    """
    if (config.run is None) == (config.hf is None):
        raise ValueError(
            "what? Either run=FOLDER (a run, a folder of runs, a glob) or hf=FOLDER (a Hugging Face language model)"
        )
    require_known(config)
    torch.set_num_threads(config.threads)
    models: Sequence[Trained]
    if config.hf is None:
        models = chosen_runs(str(config.run), packages(config.trust))
    else:
        elsewhere, config = named(config)
        models = [elsewhere]
    failed = []
    for model in models:
        CONSOLE.print(f"{model.folder}")
        try:
            done = Runner(model, config, commit()).evaluate()
            CONSOLE.print(f"  {done} evaluated" if done else "  all there", style="dim")
        except Exception as error:  # of this model; the others are evaluated all the same
            reason = in_a_line(error)
            CONSOLE.print(f"  error: {reason}", markup=False)
            failed.append((model, reason))
    return failed


@command("evaluate", free=("run", "hf", "to"))
def main(config: DictConfig) -> None:
    """The command line."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    if failed := evaluate(config):
        raise ValueError(f"{len(failed)} could not be evaluated: {', '.join(str(model.folder) for model, _ in failed)}")


if __name__ == "__main__":
    main()
