"""Ground truth: how well single neurons encode the factors that generated the texts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tti.data.templates import NONE
from tti.data.truth import Truth
from tti.evaluation.base import (
    Seen,
    SitePart,
    Subject,
    array,
    by_layer,
    mean_defined,
    per_neuron,
    too_coarse,
    unchanged,
)
from tti.evaluation.causal_truth import divergences, odd_stories, specificity
from tti.evaluation.influence import idle
from tti.evaluation.knowledge import BestDetectors, Knowledge, suffixed
from tti.evaluation.tails import Tails
from tti.evaluation_folder import Array, Result
from tti.models.taps import choose

SPREAD = 7.0  # bin edges run from the quantile sigmoid(-7) to sigmoid(7), fine in both tails


class GroundTruth(SitePart):
    """Detection of the factors of a corpus by single neurons; only for corpora whose tokens carry their factors.

    A neuron *detects* a value of a factor by a threshold, from above or below. Its F1 is evaluated at the edges of
    ``bins`` bins (quantiles of the calibration sample, fine in the tails). The best neuron, with its threshold and
    direction, is chosen on one half of the stories and measured on the other.

    ``f1`` is the mean of that over values. ``f1_above_chance`` rescales it so that a detector that always says yes (F1
    = 2p / (1 + p) at base rate p) scores 0. ``coverage`` is the fraction of values with a held-out F1 of at least
    ``covered``. ``gap`` is a neuron's normalized information I(A; F) / H(F) about its best factor minus that about its
    second best, averaged over neurons (like MIG of Chen et al. 2018, but per neuron; A binned, with Miller-Madow bias
    correction). ``matched_correlation`` is the mean absolute correlation of value indicators and neurons under the best
    one-to-one assignment.

    **Word or meaning.** For each sense of a word with several (homonyms), and its best detector j, ``homonym_semantic``
    = (m(word, sense) - m(word, other senses)) / (m(word, sense) - m(other tokens)), with m the mean activation of j in
    the direction of its detection: 0 for a neuron that follows the word, 1 for one that follows the meaning. For each
    sense with several words, ``synonym_evenness`` is the lowest over the highest m(word, sense) - m(tokens without the
    sense), clamped at 0: 0 for a neuron that responds to one word only, 1 for one that responds equally to all.
    ``homonym_auc`` is how well the best single neuron separates a word's sense from its others (chosen on one half,
    measured on the other; 0.5 is chance).

    **Beyond the last two tokens.** The best F1 rewards lookup tables: ``f1_ceiling_token`` is the score of a detector
    of the current token. ``context_...`` metrics are 0 for every function of the last two tokens (see
    :class:`tti.evaluation.beyond.Labelled`). A neuron is on in its top ``on_rates`` (the first has the plain names, the
    others ``..._top1``), with either sign, defined the same way in every network (:class:`tti.evaluation.tails.Tails`).
    Scores are means over factors (:class:`tti.evaluation.knowledge.Knowledge`): ``context_f1``, ``context_information``
    and ``context_coverage``; ``context_f1_ambiguous`` on tokens whose type leaves one of the token's factors open,
    averaged over these factors; ``context_f1_held_out`` of a pair of factors where training lacked its values (hero and
    place, or agent and place). Each has a ``..._ceiling``, the score of the ideal reader: of the story up to the token
    (grammar), or of the whole sentence.

    ``causal_f1`` is ``context_f1`` of a value times the share of its best neuron's ablation effect (KL) that falls on
    tokens of the value, above chance; negative factors count as 0. It is averaged over values and factors. Only the
    best neuron of each value is ablated, on odd stories of about ``causal_tokens`` tokens. It is not defined for a
    rotation.

    How it can be gamed: the least influential neurons, which together have at most ``least_influence`` of the site's
    influence, count as never on in all of these metrics. But a neuron with more influence, whose effect has nothing to
    do with the value, scores in ``context_f1``, though not in ``causal_f1``. With a top of 5 %, a value carried by
    more tokens cannot be covered: compare ``context_f1`` of such factors (number, tense) only with care to that of
    rarer ones.

    Memory: ``16 values x width x bins`` bytes per site, and ``width / 4`` bytes per rate and packed token.

    Args:
        sites: globs.
        bins: number of bins of a neuron's activation.
        covered: F1 from which a value counts as covered.
        fewest: values with fewer tokens than this in either half are left out.
        on_rates: fractions of tokens on which a neuron counts as on.
        least_entropy: nats of uncertainty about a factor that the last two tokens must leave for it to count.
        least_influence: the largest share of a site's influence that the neurons counted as idle have together.
        causal_sites: globs among ``sites`` whose neurons are ablated.
        causal_tokens: approximate tokens of the stories that are run with each neuron ablated; 0 for none.
        at_once: neurons per batch.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        bins: int,
        covered: float,
        fewest: int,
        on_rates: Sequence[float],
        least_entropy: float,
        least_influence: float,
        causal_sites: str | Iterable[str],
        causal_tokens: int,
        at_once: int,
    ) -> None:
        super().__init__(sites)
        self.bins, self.covered, self.fewest = bins, covered, fewest
        self.on_rates, self.least_entropy, self.least_influence = tuple(on_rates), least_entropy, least_influence
        self.causal_sites, self.causal_tokens, self.at_once = causal_sites, causal_tokens, at_once

    def inapplicable(self, subject: Subject) -> str:
        if subject.stories.truth is not None:
            return ""
        return "its tokens have no known factors (data=grammar, data=sentences; for data=grammar_tasks: part answered)"

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        assert subject.stories.truth is not None
        self.values = Values(subject.stories.truth)
        self.factors = self.values.truth.labels(subject.stories.packed)
        device = subject.device
        edges = torch.sigmoid(torch.linspace(-SPREAD, SPREAD, self.bins - 1)).tolist()
        self.edges = {
            site: torch.stack([subject.calibration[site].quantile(q) for q in edges], 1)
            for site in self.sites(subject.widths)
        }
        shape = 2, len(self.values)
        self.counts = torch.zeros(shape, dtype=torch.int64, device=device)
        widths = subject.widths
        self.histograms = {
            site: torch.zeros(*shape, widths[site], self.bins, dtype=torch.int32, device=device) for site in self.edges
        }
        self.sums = {site: torch.zeros(*shape, widths[site], dtype=torch.float64, device=device) for site in self.edges}
        self.squares = {site: torch.zeros(widths[site], dtype=torch.float64, device=device) for site in self.edges}
        tokens = len(subject.stories.packed.tokens)
        self.tails = {site: Tails(subject.calibration[site], self.on_rates, tokens) for site in self.edges}

    def update(self, seen: Seen) -> None:
        places, batch = seen.places.cpu().numpy(), seen.step.batch
        numbers = self.values.rows(np.asarray(self.factors[places]), batch.rows(batch.tokens).cpu().numpy())
        rows = torch.from_numpy(numbers).to(seen.places.device)  # [token, column]
        half = (seen.stories[seen.story] % 2) * len(self.values)
        for column in rows.T:
            self.counts.view(-1).add_(torch.bincount(half + column, minlength=self.counts.numel()))
        for site, edges in self.edges.items():
            acts = seen.step.activations[site].float()
            self.tails[site].update(acts, places)
            bins = torch.searchsorted(edges, acts.T.contiguous()).T  # a lies in (edge below, edge above]
            flat = bins + torch.arange(len(edges), device=acts.device) * self.bins
            histogram, sums = self.histograms[site].view(-1), self.sums[site].flatten(0, 1)
            self.squares[site] += acts.double().square().sum(0)
            one = torch.ones((), dtype=torch.int32, device=acts.device).expand(flat.numel())
            for column in rows.T:
                cell = (half + column)[:, None] * (len(edges) * self.bins) + flat
                histogram.scatter_add_(0, cell.flatten(), one)
                sums.index_add_(0, half + column, acts.double())

    def compute(self) -> Result:
        results: dict[str, dict[str, float]] = {}
        knowledge = Knowledge(self.subject.stories, self.values.truth, self.fewest, self.least_entropy, self.covered)
        arrays: dict[str, Array] = {
            "value/factor": Array(np.array([value.factor for value in self.values.of_factors]), ("value",)),
            "value/name": Array(np.array([value.name for value in self.values.of_factors]), ("value",)),
            "value/count": array(self.counts.sum(0)[: self.values.n_factor_values], "value", unit="tokens"),
            "value/context_counted": Array(knowledge.counted, ("value",)),
        }
        for site in self.edges:
            found = Detectors(
                self.values, self.counts, self.histograms[site], self.sums[site], self.squares[site], self.fewest
            )
            results[site] = found.metrics(self.covered)
            unused = idle(self.subject.influence[site], self.least_influence).cpu().numpy()
            arrays |= found.arrays(site)
            for rate, fraction in enumerate(self.on_rates):
                best = knowledge.detectors(self.tails[site], rate, unused)
                named = knowledge.scores(best)
                if rate == 0:
                    arrays |= best_detectors(site, best)
                    named |= self._causal(site, knowledge, best, found.mean)
                results[site] |= suffixed(named, "" if rate == 0 else f"_top{100 * fraction:g}")
        return Result(by_layer(results) | self._ceilings(knowledge), arrays)

    def _ceilings(self, knowledge: Knowledge) -> dict[str, float]:
        """Scores of the whole split, independent of the network."""
        made = knowledge.ceilings
        return {
            **suffixed(knowledge.ceiling, "_ceiling"),
            **{f"f1_ceiling_{name}": _mean(values[np.isfinite(values)].tolist()) for name, values in made.f1.items()},
            "context_factors": float(len(np.unique(knowledge.factor_of[knowledge.counted]))),
            "context_values": float(knowledge.counted.sum()),
            "entropy_floor": made.floor.nats,
            "entropy_floor_error": made.floor.error,
        }

    def _causal(
        self, site: str, knowledge: Knowledge, best: BestDetectors, means: Float[Tensor, "width"]
    ) -> dict[str, float]:
        """``causal_f1`` and ``causal_share``, if requested."""
        subject = self.subject
        wanted = choose(self.causal_sites, subject.widths)
        if site not in wanted or not self.causal_tokens or subject.view is not unchanged or too_coarse(subject):
            return {}
        chunk = odd_stories(subject.stories, self.causal_tokens).to(subject.device)
        neurons, which = np.unique(best.neuron[knowledge.counted], return_inverse=True)
        ablated, levels = torch.from_numpy(neurons).to(subject.device), means[neurons].float().to(subject.device)
        logits = subject.head or subject.net.logits
        effect = divergences(subject.net, logits, chunk, site, ablated, levels, self.at_once, self.say)
        of_values = effect.double().cpu().numpy()[which]
        share = np.zeros(knowledge.rows)
        share[knowledge.counted] = specificity(knowledge, chunk.places.cpu().numpy(), of_values, knowledge.counted)
        return {
            "causal_f1": knowledge.over_factors(best.f1.clip(0) * share.clip(0), knowledge.counted),
            "causal_share": knowledge.over_factors(share, knowledge.counted),
        }


def best_detectors(site: str, best: BestDetectors) -> dict[str, Array]:
    """Arrays, as in the schema."""
    return {
        f"{site}/context_f1": Array(best.f1.astype(np.float32), ("value",)),
        f"{site}/context_neuron": Array(best.neuron.astype(np.int32), ("value",)),
        f"{site}/context_sign": Array(best.sign.astype(np.int8), ("value",)),
    }


@dataclass(frozen=True)
class Value:
    """A value of a factor; for the factor ``form``, a word in one of its senses."""

    factor: str
    name: str
    word: int = -1
    sense: str = ""


class Values:
    """All values of the factors, concatenated, followed by *forms*: (word, sense) of homonyms and synonyms.

    A token has exactly one value of every factor (possibly ``none``) and one form, the first of which means no form.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.columns = {name: slice(0, 0) for name in truth.factors}
        self.of_factors: list[Value] = []
        for factor, names in truth.factors.items():
            self.columns[factor] = slice(len(self.of_factors), len(self.of_factors) + len(names))
            self.of_factors += [Value(factor, name) for name in names]
        ids = truth.tokenizer().get_vocab(with_added_tokens=True)
        word_of = {token.replace("\u0120", " "): number for token, number in ids.items()}
        self.homonyms = {word_of[text]: senses for text, senses in truth.homonyms.items()}
        self.synonyms = {sense: [word_of[text] for text in texts] for sense, texts in truth.synonyms.items()}
        self.senses = truth.factors.get("sense", (NONE,))
        self.forms = [Value("form", NONE)]
        self.forms += [
            Value("form", f"{word}/{sense}", word, sense)
            for word, senses in self.homonyms.items()
            for sense in dict.fromkeys((*senses, NONE))
        ]
        known = {(form.word, form.sense) for form in self.forms}
        self.forms += [
            Value("form", f"{word}/{sense}", word, sense)
            for sense, words in self.synonyms.items()
            for word in words
            if (word, sense) not in known
        ]
        self.columns["form"] = slice(len(self.of_factors), len(self.of_factors) + len(self.forms))
        self._form = np.zeros((len(ids) + 1, max(map(len, truth.factors.values()))), np.int64)
        for number, form in enumerate(self.forms[1:], start=1):
            self._form[form.word, self.senses.index(form.sense)] = number
        names = list(truth.factors)
        self._sense_column = names.index("sense") if "sense" in names else 0  # without senses there are no forms
        self._starts = np.array([self.columns[name].start for name in names])

    def __len__(self) -> int:
        return len(self.of_factors) + len(self.forms)

    @property
    def everything(self) -> slice:
        """Rows of one factor, which together have every token once."""
        return self.columns[next(iter(self.truth.factors))]

    @property
    def n_factor_values(self) -> int:
        """Number of values that are not forms."""
        return len(self.of_factors)

    def rows(
        self, factors: Int[np.ndarray, "token factor"], tokens: Int[np.ndarray, "token"]
    ) -> Int[np.ndarray, "token column"]:
        """The rows of every token: its value of every factor, and its form."""
        forms = self.columns["form"].start + self._form[tokens, factors[:, self._sense_column]]
        return np.column_stack([factors + self._starts, forms])

    def form(self, word: int, sense: str) -> int:
        """The row of a form; the row of no form if it does not exist."""
        return self.columns["form"].start + int(self._form[word, self.senses.index(sense)])

    def sense(self, name: str) -> int:
        """The row of a sense."""
        return self.columns["sense"].start + self.senses.index(name)


class Detectors:
    """Detection scores computed from the counts of one site.

    Args:
        values: the values.
        counts: tokens that carry each value, in each half.
        histogram: tokens of each value in each bin of each neuron.
        sums: sum of each neuron's activations over the tokens of each value.
        squares: sum of each neuron's squared activations.
        fewest: values with fewer tokens than this in either half are left out.
    """

    def __init__(
        self,
        values: Values,
        counts: Int[Tensor, "half value"],
        histogram: Int[Tensor, "half value width bin"],
        sums: Float[Tensor, "half value width"],
        squares: Float[Tensor, "width"],
        fewest: int,
    ) -> None:
        self.values, self.counts, self.histogram = values, counts.cpu(), histogram.cpu()
        self.sums, self.squares, self.fewest = sums.cpu(), squares.cpu(), fewest
        # tokens above the lower edge of each bin; the first bin has no lower edge, so every token counts
        self.above = self.histogram.flip(-1).cumsum(-1).flip(-1)
        everything = values.everything
        self.tokens = self.counts[:, everything].sum(1)  # [half]
        self.all_above = self.above[:, everything].sum(1)  # [half, width, bin]
        self.mean = self.sums[:, everything].sum((0, 1)) / self.tokens.sum()

    # -- detection --------------------------------------------------------------------------------------------------

    def f1(self, half: int | slice) -> Float[Tensor, "value width direction bin"]:
        """F1 of every neuron for every value of the factors, at every threshold, from above and from below."""
        hits = self.above[half, : self.values.n_factor_values]
        said, carriers = self.all_above[half], self.counts[half, : self.values.n_factor_values]
        tokens = self.tokens[half]
        if isinstance(half, slice):
            hits, said, carriers, tokens = hits.sum(0), said.sum(0), carriers.sum(0), tokens.sum()
        carriers = carriers[:, None, None]
        from_above = 2 * hits / (said + carriers).clamp_min(1)
        from_below = 2 * (carriers - hits) / (tokens - said + carriers).clamp_min(1)
        return torch.stack([from_above, from_below], 2)

    @cached_property
    def chosen(self) -> Int[Tensor, "value"]:
        """The best (neuron, direction, bin) for each value, flattened, on the first half."""
        return self.f1(0).flatten(1).argmax(1)

    @cached_property
    def neuron(self) -> Int[Tensor, "value"]:
        """The best neuron of each value."""
        return self.chosen // (2 * self.histogram.shape[-1])

    @cached_property
    def direction(self) -> Int[Tensor, "value"]:
        """+1 if it detects from above, -1 from below."""
        return 1 - 2 * (self.chosen // self.histogram.shape[-1] % 2)

    @cached_property
    def held_out(self) -> Float[Tensor, "value"]:
        """F1 of each value's best detector on the other half."""
        return self.f1(1).flatten(1).gather(1, self.chosen[:, None])[:, 0]

    @cached_property
    def counted(self) -> Tensor:
        """Which values of factors occur often enough, excluding ``none``."""
        often = (self.counts[:, : self.values.n_factor_values] >= self.fewest).all(0)
        named = torch.tensor([value.name != NONE for value in self.values.of_factors])
        return often & named

    # -- information and correlation --------------------------------------------------------------------------------

    def information(self) -> Float[Tensor, "factor width"]:
        """I(A; F) / H(F) of every neuron about every factor, with bias correction."""
        names = [name for name in self.values.columns if name != "form"]
        return torch.stack([self._information(self.histogram[:, self.values.columns[name]].sum(0)) for name in names])

    def _information(self, table: Int[Tensor, "value width bin"]) -> Float[Tensor, "width"]:
        tokens = table[:, 0].sum().double()
        joint = table.double() / tokens
        factor, acts = joint.sum(2), joint.sum(0)  # [value, width], [width, bin]
        entropy = torch.special.entr(factor).sum(0)
        information = entropy + torch.special.entr(acts).sum(1) - torch.special.entr(joint).sum((0, 2))
        used = (table > 0).sum((0, 2)) - (factor > 0).sum(0) - (acts > 0).sum(1) + 1
        return ((information - used / (2 * tokens)) / entropy.clamp_min(1e-12)).clamp_min(0)

    def correlation(self) -> Float[Tensor, "value width"]:
        """Correlation of each counted value's indicator with each neuron, over all tokens."""
        tokens = self.tokens.sum()
        share = self.counts[:, : self.values.n_factor_values].sum(0).double()[self.counted] / tokens
        together = self.sums[:, : self.values.n_factor_values].sum(0)[self.counted] / tokens
        variance = (self.squares / tokens - self.mean.square()).clamp_min(0)
        scale = ((share * (1 - share))[:, None] * variance).sqrt()
        return torch.where(scale > 0, (together - share[:, None] * self.mean) / scale.where(scale > 0, 1), 0)

    # -- word or meaning --------------------------------------------------------------------------------------------

    def homonyms(self) -> dict[str, float]:
        """``homonym_semantic`` and ``homonym_auc``."""
        semantic, auc = [], []
        for word, senses in self.values.homonyms.items():
            rows = [self.values.form(word, sense) for sense in dict.fromkeys((*senses, NONE))]
            rows = [row for row in rows if bool((self.counts[:, row] >= self.fewest).all())]
            for sense in senses:
                row = self.values.form(word, sense)
                others = [other for other in rows if other != row]
                if row in rows and others:
                    semantic.append(self._follows_meaning(self.values.sense(sense), row, others))
                    auc.append(self._auc(row, others))
        return {"homonym_semantic": _mean(semantic), "homonym_auc": _mean(auc), "homonym_senses": float(len(auc))}

    def synonyms(self) -> dict[str, float]:
        """``synonym_evenness``."""
        evenness = []
        for sense, words in self.values.synonyms.items():
            rows = [self.values.form(word, sense) for word in words]
            rows = [row for row in rows if bool((self.counts[:, row] >= self.fewest).all())]
            if len(rows) > 1:
                value = self.values.sense(sense)
                lifts = [self._level([row], value) - self._level_elsewhere([value], value) for row in rows]
                evenness.append(max(min(lifts), 0.0) / max(lifts) if max(lifts) > 0 else float("nan"))
        return {"synonym_evenness": _mean(evenness), "synonym_senses": float(len(evenness))}

    def _follows_meaning(self, value: int, row: int, others: list[int]) -> float:
        here, other = self._level([row], value), self._level(others, value)
        room = here - self._level_elsewhere([row, *others], value)
        return min(max((here - other) / room, 0.0), 1.0) if room > 0 else float("nan")

    def _level(self, rows: list[int], value: int) -> float:
        """Mean activation of ``value``'s detector in these rows, on the held-out half, in its direction."""
        total = self.sums[1, rows, self.neuron[value]].sum()
        return float(self.direction[value] * total / self.counts[1, rows].sum())

    def _level_elsewhere(self, rows: list[int], value: int) -> float:
        neuron, everything = self.neuron[value], self.values.everything
        total = self.sums[1, everything, neuron].sum() - self.sums[1, rows, neuron].sum()
        return float(self.direction[value] * total / (self.tokens[1] - self.counts[1, rows].sum()))

    def _auc(self, row: int, others: list[int]) -> float:
        """Area under the ROC curve of the best neuron for separating one form from others."""
        areas = []
        for half in (0, 1):
            positive = self.histogram[half, row].double()
            negative = self.histogram[half, others].double().sum(0)
            below = negative.cumsum(-1) - negative
            areas.append((positive * (below + negative / 2)).sum(-1) / (positive.sum(-1) * negative.sum(-1)))
        best = (areas[0] - 0.5).abs().argmax()
        area = float(areas[1][best])
        return area if areas[0][best] > 0.5 else 1 - area

    # -- results -------------------------------------------------------------------------------------------------------

    def metrics(self, covered: float) -> dict[str, float]:
        """Metrics of the site; ``f1_<factor>`` for each factor."""
        f1 = self.held_out[self.counted].double()
        share = self.counts[1, : self.values.n_factor_values][self.counted].double() / self.tokens[1]
        chance = 2 * share / (1 + share)
        correlation = self.correlation().abs().numpy()
        matched = correlation[linear_sum_assignment(correlation, maximize=True)]
        best = self.information().topk(2, 0).values
        factors = [value.factor for value in self.values.of_factors]
        of_counted = np.array(factors)[self.counted.numpy()]
        return {
            "f1": _mean(f1.tolist()),
            "f1_above_chance": _mean(((f1 - chance) / (1 - chance)).tolist()),
            "coverage": float((f1 >= covered).double().mean()) if len(f1) else float("nan"),
            "values": float(len(f1)),
            "gap": float((best[0] - best[1]).mean()),
            "information": float(best[0].mean()),
            "matched_correlation": _mean(matched.tolist()),
            **(self.homonyms() if self.values.homonyms else {}),
            **(self.synonyms() if self.values.synonyms else {}),
            **{f"f1_{name}": _mean(f1.numpy()[of_counted == name].tolist()) for name in dict.fromkeys(factors)},
        }

    def arrays(self, site: str) -> dict[str, Array]:
        """Arrays, as in the schema."""
        f1 = self.f1(slice(None)).amax((2, 3))
        counted = f1.masked_fill(~self.counted[:, None], -1).max(0)
        best = self.information().topk(2, 0).values
        left_out = ~self.counted
        return {
            f"{site}/f1": array(f1.half(), "value", "width"),
            f"{site}/best_f1": array(self.held_out.masked_fill(left_out, torch.nan), "value"),
            f"{site}/best_neuron": array(self.neuron.masked_fill(left_out, -1).int(), "value"),
            **per_neuron(
                site,
                gap=best[0] - best[1],
                best_value=counted.indices,
                best_value_f1=counted.values,
            ),
        }


def _mean(values: list[float]) -> float:
    return mean_defined(torch.tensor(values, dtype=torch.float64)) if values else float("nan")
