"""Contexts: the tokens where each neuron's activation is highest, and samples from all deciles."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, array
from tti.evaluation.sample import Chosen
from tti.evaluation.stories import StorySet
from tti.evaluation_folder import Array, Result
from tti.models.taps import choose

DECILES = 10
BLOCK = 32  # tokens whose maximum is taken together


class Contexts(SitePart):
    """The ``k`` highest activations of every neuron, exact over all tokens, and random ones from every decile.

    A context is a position in the packed split, which is stored once, together with the neuron's activation around it,
    from ``before`` tokens before to ``after`` tokens after. Exact zeros do not count: a neuron that is on at fewer than
    ``k`` tokens has fewer contexts. Ties are broken arbitrarily.

    Deciles are those of the neuron's activation at ``decile_tokens`` randomly drawn tokens, the same for all neurons.

    Memory: ``2 k x window x width`` bytes per site and extreme, ``2 decile_tokens x window x width`` for the deciles.

    Args:
        sites: globs.
        bottom: globs among ``sites`` at which the lowest activations are kept too, for neurons with two signs; may be
            empty.
        k: contexts per neuron.
        before, after: tokens of the window.
        decile_tokens: number of tokens from which deciles are estimated.
        per_decile: contexts from each decile.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        bottom: Sequence[str],
        k: int,
        before: int,
        after: int,
        decile_tokens: int,
        per_decile: int,
    ) -> None:
        super().__init__(sites)
        self.bottom, self.k, self.before, self.after = list(bottom), k, before, after
        self.decile_tokens, self.per_decile = decile_tokens, per_decile

    def attach(self, subject: Subject) -> None:
        self.stories, device = subject.stories, subject.device
        sites = self.sites(subject.widths)
        widths = {site: subject.widths[site] for site in sites}
        below = choose(self.bottom, widths) if self.bottom else ()
        self.offsets = torch.arange(-self.before, self.after + 1, device=device)
        make = partial(Extremes, k=self.k, window=len(self.offsets), device=device)
        self.top = {site: make(widths[site], sign=1) for site in sites}
        self.lowest = {site: make(widths[site], sign=-1) for site in below}
        self.deciles = Deciles(subject.stories, self.decile_tokens, widths, len(self.offsets), device)

    def update(self, seen: Seen) -> None:
        windows = Windows(seen.story, seen.places, self.offsets)
        for extremes in (self.top, self.lowest):
            for site, each in extremes.items():
                each.update(seen.step.activations[site].float(), seen.places, windows)
        self.deciles.update(seen, windows)

    def compute(self) -> Result:
        packed = self.stories.packed
        arrays: dict[str, Array] = {
            "tokens": Array(packed.tokens[:], ("packed",)),
            "offsets": Array(packed.offsets[:], ("story+1",)),
        }
        for site, extremes in self.top.items():
            arrays |= extremes.arrays(f"{site}/top")
        for site, extremes in self.lowest.items():
            arrays |= extremes.arrays(f"{site}/bottom")
        for site in self.top:
            arrays |= self.deciles.arrays(site, self.per_decile)
        metrics = {"window_before": self.before, "window_after": self.after, "k": self.k}
        return Result(metrics, arrays, {"deciles": f"of {len(self.deciles.chosen)} tokens drawn at random"})


class Windows:
    """The rows around a token in the loss, and which of them are its true neighbors in the story."""

    def __init__(self, story: Int[Tensor, "row"], places: Int[Tensor, "row"], offsets: Int[Tensor, "window"]) -> None:
        self.story, self.places, self.offsets = story, places, offsets

    def around(self, rows: Int[Tensor, "..."]) -> tuple[Int[Tensor, "... window"], Bool[Tensor, "... window"]]:
        """The window of every row, clipped to the batch, and where it is in the same story and without a gap."""
        wanted = (rows[..., None] + self.offsets).clamp(0, len(self.story) - 1)
        same_story = self.story[wanted] == self.story[rows][..., None]
        return wanted, same_story & (self.places[wanted] - self.places[rows][..., None] == self.offsets)


class Extremes:
    """The running ``k`` highest (sign 1) or lowest (-1) activations of a site's neurons, with position and window.

    Args:
        width: number of neurons.
        sign: 1 for the highest, -1 for the lowest.
        k: activations per neuron.
        window: tokens of a window.
        device: device of the state.
    """

    def __init__(self, width: int, sign: int, k: int, window: int, device: torch.device) -> None:
        self.sign, self.k = sign, k
        self.values = torch.full((width, k), -torch.inf, device=device)
        self.places = torch.full((width, k), -1, dtype=torch.int64, device=device)
        self.windows = torch.full((width, k, window), torch.nan, dtype=torch.float16, device=device)

    def update(self, acts: Float[Tensor, "token width"], places: Int[Tensor, "token"], windows: Windows) -> None:
        """Add some tokens: only activations beyond a neuron's current k-th matter, and soon there are few."""
        floor = self.values[:, -1]
        if bool((floor == -torch.inf).all()):
            every = torch.arange(len(floor), device=acts.device)
            self._merge(every, *self._best(acts), places, acts, windows)
            return
        found, rows, neurons = self._beyond(acts, floor)
        if not len(rows):
            return
        counts = torch.bincount(neurons, minlength=len(floor))
        some = counts.nonzero()[:, 0]
        many = int(counts.max()) > 4 * self.k
        best = self._best(acts[:, some]) if many else _table(found, rows, neurons, counts)
        self._merge(some, *best, places, acts, windows)

    def _best(self, acts: Float[Tensor, "token some"]) -> tuple[Float[Tensor, "some c"], Int[Tensor, "some c"]]:
        """The best activations of each neuron, and their tokens; -inf if there are fewer."""
        signed = self.sign * acts.T
        best = signed.masked_fill(signed == 0, -torch.inf).topk(min(self.k, len(acts)), dim=1)
        return best.values, best.indices

    def _beyond(
        self, acts: Float[Tensor, "token width"], floor: Float[Tensor, "width"]
    ) -> tuple[Float[Tensor, "candidate"], Int[Tensor, "candidate"], Int[Tensor, "candidate"]]:
        """Activations beyond a neuron's k-th, with token and neuron; searches blocks whose maximum is beyond."""
        whole = len(acts) // BLOCK * BLOCK
        blocks, rest = acts[:whole].unflatten(0, (-1, BLOCK)), self.sign * acts[whole:]
        block, of = ((blocks.amax(1) if self.sign > 0 else -blocks.amin(1)) > floor).nonzero().unbind(1)
        within = self.sign * blocks[block, :, of]
        which, offset = ((within > floor[of, None]) & (within != 0)).nonzero().unbind(1)
        row, neuron = ((rest > floor) & (rest != 0)).nonzero().unbind(1)
        values = torch.cat([within[which, offset], rest[row, neuron]])
        return values, torch.cat([block[which] * BLOCK + offset, row + whole]), torch.cat([of[which], neuron])

    def _merge(
        self,
        some: Int[Tensor, "some"],
        values: Float[Tensor, "some c"],
        rows: Int[Tensor, "some c"],
        places: Int[Tensor, "token"],
        acts: Float[Tensor, "token width"],
        windows: Windows,
    ) -> None:
        kept = torch.cat([self.values[some], values], 1).topk(self.k, dim=1)
        where = torch.cat([self.places[some], places[rows]], 1)
        old = kept.indices.clamp_max(self.k - 1) + some[:, None] * self.k
        window = self.windows.flatten(0, 1)[old]
        which, rank = ((kept.indices >= self.k) & (kept.values > -torch.inf)).nonzero().unbind(1)  # the new ones
        around, within = windows.around(rows[which, kept.indices[which, rank] - self.k])
        window[which, rank] = acts[around, some[which][:, None]].half().masked_fill(~within, torch.nan)
        self.values[some], self.places[some], self.windows[some] = kept.values, where.gather(1, kept.indices), window

    def arrays(self, name: str) -> dict[str, Array]:
        """Arrays, as in the schema."""
        none = self.values == -torch.inf
        values = (self.values * self.sign).masked_fill(none, torch.nan)
        return {
            f"{name}_place": array(self.places.masked_fill(none, -1).int(), "width", "rank"),
            f"{name}_activation": array(values, "width", "rank"),
            f"{name}_window": array(self.windows.masked_fill(none[..., None], torch.nan), "width", "rank", "window"),
        }


def _table(
    values: Float[Tensor, "candidate"],
    rows: Int[Tensor, "candidate"],
    neurons: Int[Tensor, "candidate"],
    counts: Int[Tensor, "width"],
) -> tuple[Float[Tensor, "some c"], Int[Tensor, "some c"]]:
    """The candidates of each neuron that has any, one row per neuron padded with -inf, and their tokens."""
    order = neurons.argsort(stable=True)
    column = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[neurons[order]]
    some = counts[counts > 0]
    line = torch.repeat_interleave(some)
    shape = len(some), int(counts.max())
    table = torch.full(shape, -torch.inf, device=values.device).index_put_((line, column), values[order])
    return table, torch.zeros(shape, dtype=torch.int64, device=rows.device).index_put_((line, column), rows[order])


class Deciles:
    """All neurons' activations at randomly drawn tokens, with their windows."""

    def __init__(
        self, stories: StorySet, tokens: int, widths: Mapping[str, int], window: int, device: torch.device
    ) -> None:
        self.chosen = Chosen(stories, tokens, device)
        count = len(self.chosen)
        self.places = torch.zeros(count, dtype=torch.int64, device=device)
        self.values = {site: torch.zeros(count, width, device=device) for site, width in widths.items()}
        self.windows = {
            site: torch.zeros(count, window, width, dtype=torch.float16, device=device)
            for site, width in widths.items()
        }

    def update(self, seen: Seen, windows: Windows) -> None:
        """Store the drawn tokens among these."""
        which, rows = self.chosen.within(seen)
        self.places[which] = seen.places[rows]
        around, within = windows.around(rows)
        for site, values in self.values.items():
            acts = seen.step.activations[site]
            values[which] = acts[rows].float()
            self.windows[site][which] = acts[around].half().masked_fill(~within[..., None], torch.nan)

    def arrays(self, site: str, per_decile: int) -> dict[str, Array]:
        """Contexts evenly spaced in every decile, lowest first."""
        values = self.values[site]
        count, width = values.shape
        order = values.argsort(0)
        ranks = (torch.arange(DECILES * per_decile, device=values.device) + 0.5) * count / (DECILES * per_decile)
        rows = order[ranks.long().clamp_max(count - 1)]  # [rank, width]
        neurons = torch.arange(width, device=values.device).expand_as(rows)
        shape = width, DECILES, per_decile
        windows = self.windows[site].transpose(1, 2)[rows, neurons]  # [rank, width, window]
        dims = "width", "decile", "rank"
        return {
            f"{site}/decile_place": array(self.places[rows].T.reshape(shape).int(), *dims),
            f"{site}/decile_activation": array(values[rows, neurons].T.reshape(shape), *dims),
            f"{site}/decile_window": array(windows.transpose(0, 1).reshape(*shape, -1), *dims, "window"),
        }
