"""A page to play with: choose a sentence and a latent, move it, and see what the decoder writes."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from tti.data.sentences import TABLE, parse
from tti.durable import write_atomically
from tti.reporting import assets, disentanglement, document, encoding
from tti.reporting.analysis import Analysis
from tti.reporting.moves import Moves


class Texts:
    """Sentences, each kept once, with the values of its factors."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a sentence."""
        return self.numbers.setdefault(text, len(self.numbers))

    def told(self) -> list[Any]:
        """For each sentence, its text and the values of its factors and style; none if it cannot be parsed."""
        values = {text: parse(text) for text in self.numbers}
        return [[text, [found.get(name, "") for name in TABLE] if found else []] for text, found in values.items()]


def write(analysis: Analysis, path: Path) -> None:
    """Write the page; without latents that change anything there is none."""
    path.unlink(missing_ok=True)
    shown = disentanglement.shown(analysis)
    if not shown:
        return
    texts = Texts()
    runs = [_run(each, texts) for each in shown]
    data = {"runs": runs, "factors": list(TABLE), "texts": texts.told()}
    report = f"../{path.parent.name}.html"
    title = document.title(analysis.config)
    page = assets.rendered("latents.html", title=title, report=report, data=Markup(encoding.inline(data)))
    write_atomically(path, page)


def _run(moves: Moves, texts: Texts) -> dict[str, Any]:
    """The latents that change anything, with the numbers of the sentences that they write."""
    return {
        "variant": moves.variant, "seed": moves.seed,
        "originals": [texts.number(text) for text in moves.originals],
        "written": [texts.number(text) for text in moves.written],
        "latents": [
            {"number": latent, "factor": moves.factor(latent), "change": round(float(moves.change[latent].max()), 3),
             "texts": [[texts.number(str(text)) for text in steps] for steps in moves.texts[:, latent]]}
            for latent in moves.order
        ],
    }  # fmt: skip
