"""The court as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig

from tti.court import tables
from tti.court.verdict import Verdict
from tti.markdown import code
from tti.reporting import markdown

TITLE = "The metric court: which scores to believe"
WHAT = (
    "Most scores of interpretability have never been held against anything that is known. Here they are: each metric "
    "of the common evaluation is measured on *planted layers*, neurons made from the built-in grammar's exact labels. "
    "In the layer that every dial starts from, neuron j is on exactly where value j holds (the hero is a dog; the word "
    "is a verb in the past), plus noise. Then one dial is turned at a time. A *dose* is what is taken from the truth: "
    "the share of a neuron that is not its own value. A metric that can be believed falls with the dose, and with "
    "nothing else. Rows that end in `- rotation` are the metric minus that of a random rotation of the layer, as "
    "reports compare it."
)
CRITERION = {
    "S": "**Sensitivity**: Spearman's correlation of the metric with the truth over the doses, the mean over seeds and "
    "halves of the stories; the lower one of rotation (every neuron at an angle to its value) and union (a neuron for "
    "any of several unrelated values). At least {sensitivity:g}.",
    "N": "**Nuisance**: the largest move under a change that leaves the truth as it is (density, offset, scale, how "
    "frequent the values are, number of stories, copies of neurons), in doses: divided by the move from dose 0 to dose "
    "1. At most {nuisance:g}.",
    "C": "**Calibration**: the metric on layers without any truth (values permuted over the tokens; noise), mean ± "
    "standard deviation, the worse of the two. Within {null_spreads:g} standard deviations of 0, or {negligible:g} "
    "doses.",
    "R": "**Resolution**: the smallest dose of rotation from which on all are told apart from dose 0, by {apart:g} "
    "standard deviations of the difference over seeds and halves. At most {resolution:g}.",
    "V": "**Validity** on trained networks: the metric's rank correlation with the truth ({truth}) over runs, given "
    "{given}, with a bootstrap interval over variants that must lie above {validity:g}; and the probability that an "
    "honest run looks better than a decoy ({decoys}), at least {auc:g}.",
    "G": "**Goodhart**: the change of the truth in networks that were trained for the metric, at the same ratio of "
    "gradients. Met if the metric rose and the truth is not shown to have fallen.",
    "K": "**Cost** in forward passes over the stories, those of the rotation included.",
}
VERDICT = (
    "A metric that meets S, N, C and R is *reportable*: on layers like these, a change of it says something about the "
    "truth. Any other is *display only*, with the criteria that it fails. The planted layers are simple, with one "
    "choice of noise, width and values. A metric that fails here may still say something else than the truth that was "
    "planted; one that passes may still fail on a trained network, which is what V and G are for."
)
RESPONSES = "Means over seeds and halves, with the dose in parentheses; last the layers without truth."
MOVES = (
    "In doses, positive towards better. The first columns are the nuisances: density (share of the tokens on which a "
    "neuron has noise; elsewhere it is exactly 0), offset (added to every activation), scale, frequency (of the "
    "planted values), tokens (share of the stories), duplication (copies of each neuron). The others have no verdict, "
    "and are moves from the dial's first level: superposition (values per neuron), lexical (share of the neurons that "
    "follow the word instead of the meaning), redundancy (share that repeat another's value), absorption (share of a "
    "child's tokens on which its parent is silent), correlation (share of the stories in which factors go together)."
)


def criteria(trial: DictConfig) -> Mapping[str, str]:
    """What each column says, with its threshold."""
    of = trial.trained
    declared = {
        "truth": code(of.truth),
        "given": " and ".join(map(code, of.given)),
        "decoys": ", ".join(map(code, of.decoys)),
    }
    limits = {**trial.thresholds, "validity": of.validity, "auc": of.auc}
    return {name: text.format(**limits, **declared) for name, text in CRITERION.items()}


def text(verdict: Verdict, to: Path) -> str:
    """Render the document; ``to`` is its path."""
    last = verdict.sittings[-1]
    blocks = [f"# {TITLE}", WHAT, listed(verdict.sentences())]
    for sitting in reversed(verdict.sittings):
        blocks += [f"## Verdicts on the {sitting.name}", markdown.rows(tables.verdicts(sitting, verdict.trained))]
    blocks += [listed(f"`{name}` {says}" for name, says in criteria(verdict.trial).items()), VERDICT]
    if verdict.trained:
        blocks += [
            "## What networks become that are trained for a metric",
            markdown.rows(tables.goodhart(last, verdict.trained)),
        ]
    blocks += [f"## What the metrics say at every dose, {last.name}", RESPONSES, markdown.rows(tables.responses(last))]
    blocks += [f"## How far every dial moves them, {last.name}", MOVES, markdown.rows(tables.moves(last))]
    blocks += ["## Not on trial", listed(f"{name}: {why}." for name, why in verdict.trial.untried.items())]
    every = f"Every value: [figures.csv]({to.stem}/figures.csv)."
    blocks += ["## Where the figures come from", listed([*verdict.provenance, every])]
    return "\n\n".join(blocks) + "\n"


def listed(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"* {line}" for line in lines)
