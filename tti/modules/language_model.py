"""The language-modelling task: next-token cross-entropy, over all tokens or those that the corpus selects."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from tti.metrics.by_label import LossByLabel, sums_by_label
from tti.metrics.loss import Loss
from tti.models.taps import Recorder
from tti.modules.task import Measured, Task
from tti.step import Batch, Step, row_activations

MAX_EXPONENT = 700.0  # exp overflows above this


class LanguageModel(Task):
    """Trains on cross-entropy in nats; with labels (``data.labels``), also logs it for each value of each label."""

    loss_name = "ce"

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.loss = Loss()
        self.by_label = nn.ModuleList()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        values = self.trainer.datamodule.label_values()  # type: ignore[attr-defined]
        self.by_label = nn.ModuleList(LossByLabel(label, names) for label, names in values.items())

    def run(self, batch: Batch, sites: Iterable[str]) -> tuple[Tensor, Step]:
        recorder = Recorder(sites)
        hidden = self.net(batch.tokens, batch.stories, recorder)
        cross_entropy, nll = self.net.loss(batch.rows(hidden), batch.targets)
        return cross_entropy, Step(batch, nll, row_activations(batch, self.net.sites, recorder.activations), self.net)

    def losses(self) -> Iterable[Measured]:
        return [self.loss, *cast(Iterable[LossByLabel], self.by_label)]

    def parts(self, step: Step) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        means: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for metric in cast(Iterable[LossByLabel], self.by_label):
            nll, rows = sums_by_label(step.nll, step.batch.labels[metric.label], len(metric.values))
            names = [f"{self.loss_name}/{value}" for value in metric.values]
            means |= dict(zip(names, (nll / rows).unbind(), strict=True))
            counts |= dict(zip(names, rows.unbind(), strict=True))
        return means, counts

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"perplexity": math.exp(min(values[self.loss_name], MAX_EXPONENT))}
