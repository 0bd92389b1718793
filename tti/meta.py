"""``python -m tti.meta runs=[...]``: choose each method's best variant, and write the experiment that confirms them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from tti.command import command
from tti.configuration import NAMING, conf_dir, without_folders
from tti.durable import write_atomically

if TYPE_CHECKING:
    from tti.reporting.analysis import Analysis
    from tti.reporting.choice import Choice
    from tti.reporting.given import Given


def choose(config: DictConfig) -> Path:
    """Write the experiment file of the chosen variants and their controls, with the reasons.

    Raises:
        ValueError: the file exists, nothing can be chosen, or the runs differ in more than their methods.
    """
    from tti.reporting import document
    from tti.reporting.analysis import analyse
    from tti.reporting.choice import choices, runs_of, with_controls
    from tti.reporting.selection import select

    to = Path(config.to or Path(conf_dir(), "experiment", "meta.yaml"))
    if to.exists() and not config.overwrite:
        raise ValueError(f"{to} exists: its variants were chosen already. overwrite=true chooses again")
    if config.split != "validation":
        raise ValueError(f"split={config.split}: choose on validation, and keep the other for what was chosen")
    patterns = document.patterns(config)
    analysis = analyse(config, select(patterns, config.baseline, config.compare_anyway, list(config.references)))
    found = choices(analysis, config.budget, config.at_most)
    variants = [choice.variant for choice in found if choice.variant is not None]
    if not variants:
        raise ValueError("no method can be chosen: " + "; ".join(f"{each.method}: {each.why}" for each in found))
    runs = runs_of(analysis, with_controls(analysis, variants))
    write_atomically(to, _text(to.stem, config, patterns, found, runs, _fresh(analysis, config.fresh)))
    return to


def _fresh(analysis: "Analysis", count: int) -> list[int]:
    first = max(run.key.seed for run in analysis.selection.found) + 1
    return list(range(first, first + count))


def _text(
    name: str,
    config: DictConfig,
    patterns: Sequence[str],
    found: Sequence["Choice"],
    runs: Mapping[str, "Given"],
    seeds: Sequence[int],
) -> str:
    from tti.reporting.plan import common_overrides

    why = {choice.variant: choice.why for choice in found}
    common = [each for each in common_overrides(list(runs.values())) if not each.startswith(NAMING)]
    lines = [
        "# @package _global_",
        f"# The best variant of each method of {', '.join(map(str, patterns))}, on seeds that no choice has used.",
        f"# The rule: on the method's front of cost and gain, the largest gain that costs at most {config.budget:g};",
        f"# at most {config.at_most} methods, those with the largest gains. Written by python -m tti.meta.",
        "#",
        f"#   {' '.join(['python -m tti.train -m', f'experiment={name}', *common])}",
        *[f"# left out: {each.method}: {each.why}" for each in found if each.variant is None],
        f"experiment: {name}",
        "hydra:",
        "  mode: MULTIRUN",
        "  sweeper:",
        "    params:",
        f"      seed: {','.join(map(str, seeds))}",
        "    variants:",
    ]
    for variant, run in runs.items():
        lines += [f"      # {why[variant]}"] if variant in why else []
        own = [each for each in run.overrides if each not in common and not each.startswith(NAMING)]
        lines.append(f"      {variant.replace('/', '_')}: {json.dumps([without_folders(each) for each in own])}")
    return "\n".join(lines) + "\n"


@command("meta", free=("runs", "to"), lists=("runs",))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    to = choose(config)
    console = Console(highlight=False, soft_wrap=True)
    console.print(to.read_text(encoding="utf-8"), markup=False)
    console.print(f"written to {to}", markup=False)


if __name__ == "__main__":
    main()
