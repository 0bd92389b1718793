"""Selectivity: the token types that a neuron responds to, with a permutation null and at a fixed number of tokens."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, array, by_layer, mean_defined, mean_of_all, per_neuron
from tti.evaluation.calibration import Calibration
from tti.evaluation.influence import weighted
from tti.evaluation.sample import Chosen
from tti.evaluation.stories import SEED, StorySet
from tti.evaluation_folder import Array, Result
from tti.measures import binary_information, rounding_error, type_entropy

ON = {"top5": 0.95, "top1": 0.99}  # on: above this quantile of the neuron's own activations
HIGHER_IS_BETTER = ("selectivity_top5", "selectivity_top1", "type_entropy_deficit", "type_entropy_above_deficit")


class Selectivity(SitePart):
    """Entropy of activation over input token types, and information about the type in whether a neuron is on.

    **One definition of "on" for all models**: the highest 5 % of the neuron's activations (``top5``; ``top1``: the
    highest 1 %), on the side of its longer tail (:meth:`Calibration.beyond`, with its rule for ties). Thresholds and
    sides come from the calibration sample; ``on_rate_top5`` is the resulting fraction of the split's tokens on which
    neurons are on.

    ``selectivity_top5`` is U = (I(A; V) - null) / (H(A) - null), with A whether the neuron is on, and V the token type:
    from 0 (no more information about the type than by chance) to 1 (the type determines whether the neuron is on). It
    is undefined, which counts as 0, if H(A) does not exceed the null, as for a neuron that is never or always on.

    ``type_entropy`` is the polysemanticity of training, for ``|a|``. ``type_entropy_above`` is that of the activation
    above the neuron's median, ``relu(sign (a - median))``, so that a GELU's negative side counts as little as a ReLU's
    zeros.

    Every null is the same quantity with the types of all tokens of the split permuted once, which keeps only density
    and the distribution of types; the size and order of chunks do not matter. ``_deficit`` is null minus entropy, and 0
    for a silent neuron. ``_fixed`` uses a fixed number of randomly drawn tokens, since entropies at different numbers
    of tokens are not comparable.

    ``_weighted`` scores weight neurons by their share of the site's :mod:`~tti.evaluation.influence`, so that neurons
    that do nothing do not count.

    Memory: ``4 n_types x width`` bytes for each of the ten tables of a site, and 8 bytes per token of the split. Types
    beyond the ``max_types`` most frequent share one row; ``pooled`` is their share of the tokens.

    How it can be gamed: any function of the current token scores 1, including neurons for arbitrary unions of types;
    neurons that do nothing raise every score that is not ``_weighted``. Entropies of ``|a|`` follow density.

    Args:
        sites: globs.
        fixed_tokens: the fixed number of tokens.
        max_types: rows of the tables.
        top_types: token types kept per neuron.
    """

    def __init__(self, sites: str | Iterable[str], fixed_tokens: int, max_types: int, top_types: int) -> None:
        super().__init__(sites)
        self.fixed_tokens, self.max_types, self.top_types = fixed_tokens, max_types, top_types

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        stories, device = subject.stories, subject.device
        self.token_ids = torch.from_numpy(stories.types).to(device)
        self.counts = torch.zeros(len(self.token_ids), dtype=torch.int64, device=device)
        self.row_of, self.type_of_row = _rows(stories.type_counts, self.max_types, device)
        self.row_counts = torch.zeros(len(self.type_of_row), dtype=torch.float64, device=device)
        self.fixed = Chosen(stories, self.fixed_tokens, device)
        self.permuted = Permuted(stories, device)
        self.tables = {
            site: Tables(subject.calibration[site], len(self.type_of_row)) for site in self.sites(subject.widths)
        }

    def update(self, seen: Seen) -> None:
        types = seen.step.batch.types
        self.counts += torch.bincount(types, minlength=len(self.counts))
        rows, permuted = self.row_of[types], self.row_of[self.permuted.types(seen.places)]
        self.row_counts += torch.bincount(rows, minlength=len(self.row_counts))
        _, within = self.fixed.within(seen)
        for site, tables in self.tables.items():
            tables.update(seen.step.activations[site], rows, permuted, within)

    def compute(self) -> Result:
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {
            "types/token": array(self.token_ids.int(), "type"),
            "types/count": array(self.counts, "type", unit="tokens"),
        }
        for site, tables in self.tables.items():
            table = tables.neurons(self.row_counts)
            values[site] = named(table, self.subject.influence[site])
            arrays |= per_neuron(site, **{name: each for name, each in table.items() if not name.endswith("deficit")})
            arrays |= self._top(site, tables)
        metrics = by_layer(values)
        metrics["fixed_tokens"] = len(self.fixed)
        metrics["pooled"] = float(self.row_counts[self.type_of_row < 0].sum() / self.row_counts.sum())
        return Result(metrics, arrays)

    def _top(self, site: str, tables: "Tables") -> dict[str, Array]:
        mass = tables.mass("size").clone()
        mass[self.type_of_row < 0] = 0
        best = mass.topk(min(self.top_types, len(mass)), dim=0)
        none = best.values <= 0
        total = tables.mass("size").double().sum(0)
        share = (best.values / total.where(total > 0, 1)).masked_fill(none, 0)
        base_rate = (self.row_counts / self.row_counts.sum())[best.indices]
        ids = torch.where(none, -1, self.token_ids[self.type_of_row[best.indices].clamp_min(0)])
        return {
            f"{site}/top_types": array(ids.T.int(), "width", "rank"),
            f"{site}/top_types_share": array(share.T.float(), "width", "rank"),
            f"{site}/top_types_mean": array((share / base_rate).masked_fill(none, 0).T.float(), "width", "rank"),
        }


def named(table: Mapping[str, Float[Tensor, "width"]], influence: Float[Tensor, "width"]) -> dict[str, float]:
    """Metrics of a site, from its table of neurons."""
    entropies = ("type_entropy", "type_entropy_null", "type_entropy_fixed", "type_entropy_fixed_null")
    above = ("type_entropy_above", "type_entropy_above_null")
    return {
        **{name: mean_defined(table[name]) for name in (*entropies, *above, "effective_types")},
        **{name: mean_of_all(table[name]) for name in HIGHER_IS_BETTER},
        **{f"{name}_weighted": weighted(table[name], influence) for name in HIGHER_IS_BETTER},
        **{f"on_rate_{level}": float(table[f"on_rate_{level}"].mean()) for level in ON},
        "selectivity_undefined": float(table["selectivity_top5"].isnan().double().mean()),
        "silent": float(table["type_entropy"].isnan().double().mean()),
    }


def _rows(
    counts: Int[Tensor, "type"], max_types: int, device: torch.device
) -> tuple[Int[Tensor, "type"], Int[Tensor, "row"]]:
    """The row of every type, and the type of every row; -1 marks the row shared by all other types."""
    if len(counts) <= max_types:
        rows = torch.arange(len(counts), device=device)
        return rows, rows
    frequent = counts.argsort(descending=True, stable=True)[: max_types - 1]
    rows = torch.full((len(counts),), max_types - 1)
    rows[frequent] = torch.arange(max_types - 1)
    return rows.to(device), torch.cat([frequent, torch.tensor([-1])]).to(device)


class Permuted:
    """The types of all tokens in the loss of the split, permuted once."""

    def __init__(self, stories: StorySet, device: torch.device) -> None:
        places = stories.token_places()
        types = np.searchsorted(stories.types, stories.packed.tokens[places])
        permuted = np.random.default_rng(SEED).permutation(types)
        self.places = torch.from_numpy(places).to(device)
        self.permuted = torch.from_numpy(permuted.astype(np.int32)).to(device)

    def types(self, places: Int[Tensor, "token"]) -> Int[Tensor, "token"]:
        """The permuted types of the tokens at these positions of the packed split."""
        return self.permuted[torch.searchsorted(self.places, places)].long()


class Tables:
    """Tables of one site: activation mass, and tokens on which each neuron is on, by type and by permuted type."""

    COLUMNS = ("size", "above", *ON)

    def __init__(self, calibration: Calibration, rows: int) -> None:
        self.width, device = len(calibration.mean), calibration.mean.device
        self.sign, _ = calibration.beyond(ON["top5"])
        self.thresholds = {level: calibration.beyond(q)[1] for level, q in ON.items()}
        self.median = self.sign * calibration.quantile(0.5)
        shape = rows, len(self.COLUMNS) * self.width
        self.by_type, self.null = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.fixed = torch.zeros(rows, self.width, device=device)
        self.fixed_null = torch.zeros(rows, self.width, device=device)
        self._columns = torch.zeros(0, shape[1], device=device)

    def update(
        self,
        acts: Float[Tensor, "token width"],
        rows: Int[Tensor, "token"],
        permuted: Int[Tensor, "token"],
        within: Int[Tensor, "chosen"],
    ) -> None:
        """Add some tokens, with the rows of their types."""
        acts = acts.float()
        if len(acts) > len(self._columns):
            self._columns = acts.new_empty(len(acts), self._columns.shape[1])
        columns = self._columns[: len(acts)]
        size, above, *on = columns.split(self.width, 1)
        torch.abs(acts, out=size)
        signed = acts * self.sign
        torch.sub(signed, self.median, out=above).clamp_min_(0)
        for threshold, column in zip(self.thresholds.values(), on, strict=True):
            torch.gt(signed, threshold, out=column)
        self.by_type.index_add_(0, rows, columns)
        self.null.index_add_(0, permuted, columns)
        if len(within):
            self.fixed.index_add_(0, rows[within], size[within])
            self.fixed_null.index_add_(0, permuted[within], size[within])

    def mass(self, column: str, null: bool = False) -> Float[Tensor, "row width"]:
        """One of :data:`COLUMNS`, by type or by permuted type."""
        start = self.COLUMNS.index(column) * self.width
        return (self.null if null else self.by_type)[:, start : start + self.width]

    def neurons(self, counts: Float[Tensor, "row"]) -> dict[str, Float[Tensor, "width"]]:
        """Statistics of each neuron, by name."""
        table = {
            "type_entropy": self._entropy(self.mass("size")),
            "type_entropy_null": self._entropy(self.mass("size", null=True)),
            "type_entropy_fixed": self._entropy(self.fixed),
            "type_entropy_fixed_null": self._entropy(self.fixed_null),
            "type_entropy_above": self._entropy(self.mass("above")),
            "type_entropy_above_null": self._entropy(self.mass("above", null=True)),
            "selectivity_sign": self.sign,
        }
        for kind in ("type_entropy", "type_entropy_above"):
            table[f"{kind}_deficit"] = table[f"{kind}_null"] - table[kind]
        for level in ON:
            table[f"selectivity_{level}"] = self._uncertainty(level, counts)
            table[f"on_rate_{level}"] = self.mass(level).double().sum(0) / counts.sum()
        return table | {"effective_types": table["type_entropy"].exp()}

    def _entropy(self, mass: Float[Tensor, "row width"]) -> Float[Tensor, "width"]:
        entropy, active = type_entropy(mass)
        return entropy.masked_fill(~active, torch.nan)

    def _uncertainty(self, level: str, counts: Float[Tensor, "row"]) -> Float[Tensor, "width"]:
        """U; undefined if H(A) exceeds the null by no more than the rounding error of sums over the types."""
        information, entropy = binary_information(self.mass(level), counts)
        null, _ = binary_information(self.mass(level, null=True), counts)
        room, rounding = entropy - null, 4 * rounding_error(len(counts), torch.float64)
        return torch.where(room > rounding, (information - null) / room.clamp_min(rounding), torch.nan)
