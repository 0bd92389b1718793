"""Robustness: what edits of the context do to the loss and to the predictions, for each variant."""

from tti.reporting import over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows

FIGURES = {
    "clean": "loss before",
    "increase": "increase",
    "relative": "share of what context is worth",
    "changed": "predictions changed",
}
INCREASE = "robustness/increase/"
TITLE = "Robustness"
NOTE = (
    "Loss of the targets that an edit of the story leaves, nats per token; its increase after the edit, also over what "
    "context is worth (the loss below that of the frequencies of tokens); and the share of them at which another token "
    "becomes the most likely one. `random` is the null of `gradient`, `other_sense` the counterpart of `synonym`, and "
    "`other_story` the ceiling. A network that reads less is more robust: compare variants of equal loss."
)


def finding(analysis: Analysis) -> list[Found]:
    """The table of the evaluated variants, a column per edit."""
    table = analysis.table
    edits = [name.removeprefix(INCREASE) for name in table if name.startswith(INCREASE)]
    rows = [
        [
            Cell(variant, kind="name"),
            Cell(label, kind="text"),
            *[over_seeds.mean(over_seeds.values(table, f"robustness/{figure}/{edit}", variant)) for edit in edits],
        ]
        for variant in analysis.variants
        if any(len(over_seeds.values(table, INCREASE + edit, variant)) for edit in edits)
        for figure, label in FIGURES.items()
    ]
    return [Found(TITLE, [NOTE], Rows(["variant", "figure", *edits], rows), folded=True)] if rows else []
