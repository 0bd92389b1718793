"""``python -m tti.evaluate run=FOLDER``: evaluate finished runs into their ``evaluation/`` folders.

``hf=FOLDER data=…`` evaluates a language model that was not trained here.
"""

import glob
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tti.command import command
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation
from tti.runs import Run, commit, find
from tti.trust import packages

if TYPE_CHECKING:
    from tti.evaluation.runner import Trained

# Metrics printed after an evaluation, if available.
HEADLINES = {
    "performance/loss": "loss in nats per token",
    "performance/bits_per_byte": "bits per byte",
    "selectivity/selectivity_top5_weighted/mlp.post/mean": "selectivity of mlp.post, weighted by influence",
    "ground_truth/context_f1/mlp.post/mean": "best F1 beyond the last two tokens of mlp.post, mean",
    "causality/ablation_specificity/mlp.post/mean": "specificity of ablations of mlp.post, mean",
}


def chosen_runs(pattern: str, trust: tuple[str, ...] = ()) -> list[Run]:
    """The runs at or below a folder, or matching a glob; a run is a folder with a ``config.yaml``.

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


def evaluate(config: DictConfig) -> Sequence[tuple["Trained", str]]:
    """Evaluate the runs, or the external model; returns those that failed, with the reason.

    Raises:
        ValueError: there are no runs, or an unknown part is requested.
    """
    import torch  # takes seconds that `--help` can avoid

    from tti.evaluation.runner import CONSOLE, Runner, in_a_line, require_known
    from tti.huggingface.foreign import named

    if (config.run is None) == (config.hf is None):
        raise ValueError(
            "set either run=FOLDER (a run, a folder of runs, a glob) or hf=FOLDER (a Hugging Face language model)"
        )
    require_known(config)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    models: Sequence[Trained]
    if config.hf is None:
        models = chosen_runs(str(config.run), packages(config.trust))
    else:
        elsewhere, config = named(config)
        models = [elsewhere]
    failed = []
    began = time.monotonic()
    for number, model in enumerate(models):
        CONSOLE.print(f"{model.folder}{_how_far(number, len(models), time.monotonic() - began)}")
        try:
            done = Runner(model, config, commit()).evaluate()
            CONSOLE.print(f"  {done} evaluated" if done else "  nothing to do", style="dim")
            for line in headlines(model.folder, config.split):
                CONSOLE.print(f"  {line}", markup=False)
        except Exception as error:  # of this model only
            reason = in_a_line(error)
            CONSOLE.print(f"  error: {reason}", markup=False)
            failed.append((model, reason))
    return failed


def headlines(folder: Path, split: str) -> list[str]:
    """The main metrics of an evaluated model, one line each with its controls, and where to find the rest."""
    evaluations = [Evaluation(folder, split, subject) for subject in (TRAINED, RANDOM_INIT, ROTATION)]
    (_, trained), *controls = [(each.subject, each.metrics()) for each in evaluations]
    lines = [
        f"{label}: {trained[key]:.4g}{_in_brackets({name: of[key] for name, of in controls if key in of})}"
        for key, label in HEADLINES.items()
        if key in trained
    ]
    return [*lines, f"all metrics: {evaluations[0].folder}"] if trained else []


def _in_brackets(controls: Mapping[str, float]) -> str:
    return f" ({', '.join(f'{name} {value:.4g}' for name, value in controls.items())})" if controls else ""


def _how_far(done: int, of: int, seconds: float) -> str:
    """`` (2 of 4, 3 min left)``, assuming that all take equally long."""
    if of == 1:
        return ""
    left = f", {math.ceil(seconds / done * (of - done) / 60)} min left" if done else ""
    return f" ({done + 1} of {of}{left})"


@command("evaluate", free=("run", "hf", "to"))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    if failed := evaluate(config):
        raise ValueError(f"{len(failed)} could not be evaluated: {', '.join(str(model.folder) for model, _ in failed)}")


if __name__ == "__main__":
    main()
