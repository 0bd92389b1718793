"""The task of an autoencoder: to write a sentence again from its latent."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from tti.metrics.codes import Codes
from tti.metrics.loss import Loss
from tti.models.autoencoder import LOG_VARIANCE, MEAN
from tti.models.taps import Recorder
from tti.modules.task import Measured, Task
from tti.step import Batch, Step, row_activations


class Autoencoding(Task):
    """Trains on the cross-entropy in nats per token of a sentence given its latent and its preceding tokens.

    KL, total correlation and supervision are regularizers. Validation uses the latents' means: ``val/loss`` is the
    cross-entropy, ``val/kl`` the KL per sentence, and ``val/active_units`` the number of latents in use.

    Raises:
        ValueError: the network has no latent, or a sentence is longer than its context.
    """

    loss_name = "ce"

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        if MEAN not in self.net.sites:
            raise ValueError("task=autoencoder trains a network with a latent: model=autoencoder")
        self.loss = Loss()
        self.latent_sites = {MEAN, LOG_VARIANCE} & self.net.sites.keys()
        self.codes = Codes(self.net.sites[MEAN].width, noise=LOG_VARIANCE in self.latent_sites)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        longest = max(int(data.split(split).lengths.max()) for split in data.corpus.splits)
        if longest > data.max_length:
            raise ValueError(
                f"the longest sentence has {longest} tokens, and data.max_length={data.max_length} would cut it; an "
                f"autoencoder reads and writes whole sentences: set model.context={longest} or more"
            )

    def run(self, batch: Batch, sites: Iterable[str]) -> tuple[Tensor, Step]:
        recorder = Recorder(self.latent_sites.union(sites))
        hidden = self.net(batch.tokens, batch.stories, recorder)
        cross_entropy, nll = self.net.loss(batch.rows(hidden), batch.targets)
        return cross_entropy, Step(batch, nll, row_activations(batch, self.net.sites, recorder.activations), self.net)

    def losses(self) -> Iterable[Measured]:
        return [self.loss, self.codes]
