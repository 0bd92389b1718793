"""Selectivity: which token types a neuron answers to, against permuted types and at a fixed number of tokens."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, array, by_layer, mean_defined, per_neuron
from tti.evaluation.calibration import Calibration
from tti.evaluation.sample import Chosen
from tti.evaluation.stories import SEED
from tti.evaluation_folder import Array, Result
from tti.measures import binary_information, type_entropy

ON = 0.95  # the quantile beyond which a neuron without a threshold of its own is on


class Selectivity(SitePart):
    """Entropy of activation over input token types, and information about the type in whether a neuron is on.

    ``type_entropy`` is training's polysemanticity; ``type_entropy_null`` the same with the types of each chunk's tokens
    permuted, so that only density and the distribution of types are left. Both also over a fixed number of tokens,
    drawn at random: entropies over different numbers do not compare.

    ``selectivity``: U = (I(A; V) - null) / (H(A) - null), from 0 (says no more of the type than chance) to 1 (the type
    decides whether the neuron is on). A: ``a > 0`` or ``a < 0`` at sites whose non-linearity makes zeros, elsewhere
    beyond the neuron's own 95th or 5th percentile (of the calibration's sample); the better sign counts. Undefined
    where H(A) does not exceed the null: neurons that are never or always on.

    Memory: ``4 n_types x width`` bytes for each of the tables, of which there are six a site, or eight where both signs
    occur. Types rarer than the ``max_types`` most frequent share one row; ``pooled`` says what share of tokens that is.

    What games it: entropies follow density (a constant neuron has the entropy of the token distribution, its null);
    U does not. Killing neurons removes them from both means: read them beside ``silent`` and ``selectivity_undefined``.

    Args:
        sites: globs.
        fixed_tokens: the fixed number.
        max_types: rows of the tables.
        top_types: token types kept a neuron.
    """

    def __init__(self, sites: str | Iterable[str], fixed_tokens: int, max_types: int, top_types: int) -> None:
        super().__init__(sites)
        self.fixed_tokens, self.max_types, self.top_types = fixed_tokens, max_types, top_types

    def attach(self, subject: Subject) -> None:
        stories, device = subject.stories, subject.device
        self.token_ids = torch.from_numpy(stories.types).to(device)
        self.counts = torch.zeros(len(self.token_ids), dtype=torch.int64, device=device)
        self.row_of, self.type_of_row = _rows(stories.type_counts, self.max_types, device)
        self.row_counts = torch.zeros(len(self.type_of_row), dtype=torch.float64, device=device)
        self.fixed = Chosen(stories, self.fixed_tokens, device)
        self.generator = torch.Generator().manual_seed(SEED)
        self.tables = {
            site: Tables(subject.calibration[site], len(self.type_of_row)) for site in self.sites(subject.net.widths)
        }

    def update(self, seen: Seen) -> None:
        types = seen.step.batch.types
        self.counts += torch.bincount(types, minlength=len(self.counts))
        rows = self.row_of[types]
        self.row_counts += torch.bincount(rows, minlength=len(self.row_counts))
        permuted = rows[torch.randperm(len(rows), generator=self.generator).to(rows.device)]
        _, within = self.fixed.within(seen)
        for site, tables in self.tables.items():
            tables.update(seen.step.activations[site].float(), rows, permuted, within)

    def compute(self) -> Result:
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {
            "types/token": array(self.token_ids.int(), "type"),
            "types/count": array(self.counts, "type", unit="tokens"),
        }
        for site, tables in self.tables.items():
            table = tables.neurons(self.row_counts)
            entropy, null = table["type_entropy"], table["type_entropy_null"]
            values[site] = {
                "type_entropy": mean_defined(entropy),
                "type_entropy_null": mean_defined(null),
                "type_entropy_deficit": mean_defined(null - entropy),
                "type_entropy_fixed": mean_defined(table["type_entropy_fixed"]),
                "type_entropy_fixed_null": mean_defined(table["type_entropy_fixed_null"]),
                "effective_types": mean_defined(table["effective_types"]),
                "selectivity": mean_defined(table["selectivity"]),
                "selectivity_undefined": float(table["selectivity"].isnan().double().mean()),
                "silent": float(entropy.isnan().double().mean()),
            }
            arrays |= per_neuron(site, **table)
            arrays |= self._top(site, tables)
        metrics = by_layer(values)
        metrics["fixed_tokens"] = len(self.fixed)
        metrics["pooled"] = float(self.row_counts[self.type_of_row < 0].sum() / self.row_counts.sum())
        return Result(metrics, arrays)

    def _top(self, site: str, tables: "Tables") -> dict[str, Array]:
        mass = tables.mass[:, : tables.width].clone()
        mass[self.type_of_row < 0] = 0
        best = mass.topk(min(self.top_types, len(mass)), dim=0)
        none = best.values <= 0
        total = tables.mass[:, : tables.width].double().sum(0)
        share = (best.values / total.where(total > 0, 1)).masked_fill(none, 0)
        base_rate = (self.row_counts / self.row_counts.sum())[best.indices]
        ids = torch.where(none, -1, self.token_ids[self.type_of_row[best.indices].clamp_min(0)])
        return {
            f"{site}/top_types": array(ids.T.int(), "width", "rank"),
            f"{site}/top_types_share": array(share.T.float(), "width", "rank"),
            f"{site}/top_types_mean": array((share / base_rate).masked_fill(none, 0).T.float(), "width", "rank"),
        }


def _rows(
    counts: Int[Tensor, "type"], max_types: int, device: torch.device
) -> tuple[Int[Tensor, "type"], Int[Tensor, "row"]]:
    """The row of every type, and the type of every row; -1: the row of all types that have none of their own."""
    if len(counts) <= max_types:
        rows = torch.arange(len(counts), device=device)
        return rows, rows
    frequent = counts.argsort(descending=True, stable=True)[: max_types - 1]
    rows = torch.full((len(counts),), max_types - 1)
    rows[frequent] = torch.arange(max_types - 1)
    return rows.to(device), torch.cat([frequent, torch.tensor([-1])]).to(device)


class Tables:
    """Of one site: activation mass, and tokens on which each neuron is on, by type and by permuted type."""

    def __init__(self, calibration: Calibration, rows: int) -> None:
        self.width, device = len(calibration.mean), calibration.mean.device
        if calibration.rectified:
            self.above, self.below = torch.zeros(self.width, device=device), torch.zeros(self.width, device=device)
        else:
            self.above, self.below = calibration.quantile(ON), calibration.quantile(1 - ON)
        # Where no activation of the sample is negative, "below" would never be seen.
        self.signs = 2 if bool((calibration.quantiles[:, 0] < 0).any()) else 1
        shape = rows, self.width * (1 + self.signs)
        self.mass, self.null = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.fixed = torch.zeros(rows, self.width, device=device)
        self.fixed_null = torch.zeros(rows, self.width, device=device)

    def update(
        self,
        acts: Float[Tensor, "token width"],
        rows: Int[Tensor, "token"],
        permuted: Int[Tensor, "token"],
        within: Int[Tensor, "chosen"],
    ) -> None:
        """Take in some tokens, with their types' rows."""
        size = acts.abs()
        on = [(acts > self.above).float(), (acts < self.below).float()][: self.signs]
        columns = torch.cat([size, *on], 1)
        self.mass.index_add_(0, rows, columns)
        self.null.index_add_(0, permuted, columns)
        self.fixed.index_add_(0, rows[within], size[within])
        self.fixed_null.index_add_(0, permuted[within], size[within])

    def neurons(self, counts: Float[Tensor, "row"]) -> dict[str, Float[Tensor, "width"]]:
        """A number a neuron."""
        width = self.width
        entropy, active = type_entropy(self.mass[:, :width])
        entropies = {
            "type_entropy": entropy,
            "type_entropy_null": type_entropy(self.null[:, :width])[0],
            "type_entropy_fixed": type_entropy(self.fixed)[0],
            "type_entropy_fixed_null": type_entropy(self.fixed_null)[0],
        }
        table = {name: values.masked_fill(~active, torch.nan) for name, values in entropies.items()}
        columns = [slice(width * sign, width * (sign + 1)) for sign in range(1, 1 + self.signs)]
        each = torch.stack([self._uncertainty(column, counts) for column in columns])
        best = each.nan_to_num(-torch.inf).max(0)
        rates = torch.stack([self.mass[:, column].double().sum(0) for column in columns]) / counts.sum()
        return {
            **table,
            "effective_types": table["type_entropy"].exp(),
            "selectivity": best.values.where(best.values.isfinite(), torch.nan),
            "selectivity_sign": 1 - 2 * best.indices,
            "on_rate": rates.gather(0, best.indices[None])[0],
        }

    def _uncertainty(self, column: slice, counts: Float[Tensor, "row"]) -> Float[Tensor, "width"]:
        information, entropy = binary_information(self.mass[:, column], counts)
        null, _ = binary_information(self.null[:, column], counts)
        room = entropy - null
        return torch.where(room > 1e-9, (information - null) / room.clamp_min(1e-9), torch.nan)
