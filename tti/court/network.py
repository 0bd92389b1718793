"""A network whose only layer is planted: it looks up activations by story, and reads its output from them."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.court.planting import Labels, Planting
from tti.data.cache import PackedStories
from tti.models.network import Network, Site
from tti.models.stories import Stories
from tti.models.taps import Tap, no_tap

SITE = "blocks.0.mlp.post"


class PlantedNetwork(Network):
    """The planted layer is at :data:`SITE`; the logits are a linear function of it.

    The final hidden state holds the planted values as they are read from the layer (:attr:`Planting.decoding`), and the
    head adds each value's random effects on the logits. So what an ablation of a neuron changes is known. The loss is
    that of these logits and means nothing, since nothing was trained.

    Args:
        planting: the layer.
        splits: the packed splits whose stories it knows, with their labels.
        context: maximum number of tokens of a story.
    """

    attends_by_layout = False

    def __init__(self, planting: Planting, splits: Iterable[tuple[PackedStories, Labels]], context: int) -> None:
        super().__init__()
        splits = list(splits)
        self.context, self._vocabulary = context, int(splits[0][0].manifest["vocab_size"])
        self.truth, self.offset = planting.recipe.truth, planting.offset
        self.ran = 0
        self._layers = [torch.from_numpy(planting.layer(labels, i)) for i, (_, labels) in enumerate(splits)]
        self._start = _starts(splits, context)
        self.decoding = nn.Parameter(torch.from_numpy(planting.decoding), requires_grad=False)
        self.effects = nn.Parameter(torch.from_numpy(planting.effects(self._vocabulary)), requires_grad=False)
        self.sites = {SITE: Site(self._layers[0].shape[1])}

    @property
    def vocab_size(self) -> int:
        return self._vocabulary

    @property
    def operations_per_token(self) -> int:
        return 0

    def forward(self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap) -> Float[Tensor, "token value"]:
        """The planted values as read from the layer; ``ran`` counts the tokens.

        Raises:
            ValueError: a document is not one of the planted stories.
        """
        self.ran += len(tokens)
        acts = torch.cat([self._planted(story) for story in tokens.split(layout.lengths)])
        return (tap(SITE, acts) - self.offset) @ self.decoding

    def logits(self, hidden: Float[Tensor, "row value"]) -> Float[Tensor, "row vocab"]:
        return hidden @ self.effects

    def loss(
        self, hidden: Float[Tensor, "row value"], targets: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "row"]]:
        nll = F.cross_entropy(self.logits(hidden), targets, reduction="none")
        return nll.mean(), nll.detach()

    def _planted(self, story: Int[Tensor, "token"]) -> Float[Tensor, "token width"]:
        known = self._start.get(_key(story.cpu().numpy()))
        if known is None:
            raise ValueError("a planted network knows the activations of its own whole stories only")
        split, start = known
        return self._layers[split][start : start + len(story)].to(story.device)


def _starts(splits: Iterable[tuple[PackedStories, Labels]], context: int) -> Mapping[bytes, tuple[int, int]]:
    """Split and first packed token of every story, by its tokens."""
    found = {}
    for split, (packed, labels) in enumerate(splits):
        for start, end in zip(packed.offsets[:-1].tolist(), packed.offsets[1:].tolist(), strict=True):
            found[_key(labels.tokens[start : min(end - 1, start + context)])] = split, start
    return found


def _key(tokens: Int[np.ndarray, "token"]) -> bytes:
    return tokens.astype(np.int64).tobytes()
