"""The cost of one part of the evaluation."""

import math
from dataclasses import dataclass

import torch
from hydra.utils import instantiate

from tti.benchmarking.clocks import Clock
from tti.benchmarking.memory import NONE, peak_of
from tti.benchmarking.setting import Setting, composed
from tti.evaluation.base import Subject
from tti.evaluation.run_through import examine
from tti.evaluation.runner import made
from tti.evaluation.stories import StorySet
from tti.models.network import Network
from tti.models.taps import kind_of


@dataclass(frozen=True)
class Cost:
    """What a part costs on an untrained network, on whose weights the cost of its arithmetic does not depend.

    Attributes:
        tokens: of the split, that it sees.
        neurons: of all MLPs.
        seconds: of the part alone, with forward passes and calibration, which parts share when several are evaluated.
        own: wall-clock seconds of its own work.
        mib: peak memory beyond what was in use before; NaN where it cannot be measured.
        left_out: why it cannot be done on this network and these stories; empty if it can.
    """

    tokens: int
    neurons: int = 0
    seconds: float = math.nan
    own: float = math.nan
    mib: float = math.nan
    left_out: str = ""

    @property
    def peak(self) -> str:
        """The cell of a table with the peak memory."""
        return NONE if math.isnan(self.mib) else f"{self.mib:,.0f}"


def names() -> list[str]:
    """The parts of the evaluation."""
    return list(composed((), "evaluate").evaluation)


@torch.no_grad()
def cost(name: str, setting: Setting, split: str, tokens: int, tokens_per_chunk: int, clock: Clock) -> Cost:
    """The cost of a part on about ``tokens`` tokens of a split; memory is the part's own in a fresh process."""
    setting.seed()
    config = composed((), "evaluate")
    net: Network = instantiate(setting.config.model).to(setting.fabric.device).eval()
    stories = StorySet(setting.data, split, tokens_per_chunk).subset(tokens)
    subject, part = Subject("", net, stories), made(config.evaluation[name])
    if reason := part.inapplicable(subject):
        return Cost(stories.tokens, left_out=reason)

    def work() -> None:
        examine({subject: [part]}, config.calibration_tokens)
        with part.timed():
            part.compute()

    began = clock()
    mib = peak_of(work)
    neurons = sum(site.width for name, site in net.sites.items() if kind_of(name) == "mlp.post")
    return Cost(stories.tokens, neurons, clock() - began, part.seconds, mib)
