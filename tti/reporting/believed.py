"""Which scores to believe: a court's verdict, as far as a report needs it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tti.markdown import code
from tti.reporting.comparison import SIGNS

FILE = "verdicts.csv"
NONE = (
    "**Believed:** no score has a voice, so there is no aggregate: `python -m tti.court` tries the metrics on layers "
    "whose truth is known, and none meets all criteria (docs/results/court.md)."
)


@dataclass(frozen=True)
class Voice:
    """A metric that the court lets speak.

    Attributes:
        metric: ``part/metric``, without the kind of site.
        sign: 1 if more is better, -1 if less is.
        unit: its change from dose 0 to dose 1, by which scores of different metrics come on one scale.
    """

    metric: str
    sign: int
    unit: float

    @property
    def family(self) -> str:
        """The part of the evaluation that it belongs to."""
        return self.metric.partition("/")[0]


@dataclass(frozen=True)
class Believed:
    """The verdict of a court.

    Attributes:
        file: the Markdown file that the court has written; its page lies beside it.
        tried: number of metrics that stood trial.
        reportable: those that meet the criteria that planted layers can test.
        voices: those that may speak in an aggregate.
    """

    file: Path
    tried: int
    reportable: tuple[str, ...]
    voices: tuple[Voice, ...]

    @classmethod
    def read(cls, file: Path) -> "Believed":
        """The verdict that lies beside a court's Markdown file.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        path = file.with_suffix("") / FILE
        try:
            table = pd.read_csv(path)
            spoken = table[table["voice"].astype(bool)]
            voices = (
                Voice(str(metric), SIGNS[better], float(unit))
                for metric, better, unit in zip(spoken["measured"], spoken["better"], spoken["unit"], strict=True)
            )
            reportable = table.loc[table["verdict"] == "reportable", "metric"]
            return cls(file, len(table), tuple(map(str, reportable)), tuple(voices))
        except (OSError, ValueError, LookupError) as error:
            raise ValueError(
                f"court={file}: {path} is no verdict ({error}); python -m tti.court writes both"
            ) from error

    @property
    def page(self) -> Path:
        """The court's page."""
        return self.file.with_suffix(".html")


def sentence(believed: Believed | None) -> str:
    """Which scores to believe, in one Markdown sentence."""
    if believed is None:
        return NONE
    passed = f": {', '.join(map(code, believed.reportable))}" * bool(believed.reportable)
    spoken = ", ".join(code(voice.metric) for voice in believed.voices)
    voices = f"{spoken} may speak in the aggregate" if spoken else "none has a voice, so there is no aggregate"
    return (
        f"**Believed:** {len(believed.reportable)} of {believed.tried} metrics meet the criteria that planted layers "
        f"can test{passed}; {voices} ({code(believed.file.name)})."
    )
