"""Answered facts: which single neurons know the answer to a question, and whether they answer other questions too."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from tti.data.tasks import ANSWERED, ANSWERS
from tti.evaluation.base import Seen, SitePart, Subject, by_layer
from tti.evaluation.beyond import Labelled
from tti.evaluation.calibration import Calibration
from tti.evaluation.influence import idle
from tti.evaluation.tails import SIGNS, threshold
from tti.evaluation_folder import Array, Result

ARRAY = "answered"
Mask = Bool[np.ndarray, "item"]


class AnsweredFacts(SitePart):
    """Ground truth on ``data=grammar_tasks``: detection of the answers by single neurons, where they are predicted.

    An item asks for one of five facts, and its answer says one of three things about it (``tti.data.tasks.ANSWERED``:
    "feeling=sad", "hero=girl|boy", …, 15 values). The items are measured at a single token, the mark before the answer.
    It is the same token in all items, as is the one before it, so nothing can be gained by following token types.

    A neuron *detects* a value in its top (or bottom) fraction of the items, one of ``on_rates``. The best neuron, sign
    and rate for each value are chosen on the even items, and its F1 is measured on the odd ones, beyond that of a
    function of the question alone: (F1 - F0) / (1 - F0), where F0 is expected if the detector and the value are
    independent given the fact that is asked for. 0 for every detector that only separates the tasks or the questions,
    or follows the token type; 1 for one that is on exactly for the value.

    ``f1`` is measured over all items: such a neuron knows the value *and* is off in all other tasks. ``f1_within`` is
    measured only over the items that ask for the fact, with a neuron, sign and rate chosen for them: it knows the
    value, whatever it does elsewhere. A neuron that stands for the answer "one" in all tasks has a low ``f1`` and a
    high ``f1_within``; if training raises the former but not the latter, neurons are only more separated. ``f1_<fact>``
    are means over the three values of a fact.

    The null is 0 in expectation, since detectors are chosen and measured on different items; the ceiling is 1. How it
    can be gamed: the network decides what it keeps at the mark, so a neuron that is only the logit of an answer word,
    per task, scores 1; it measures whether single neurons stand for a task's answers, not how they were found. The
    least influential neurons, which together have at most ``least_influence`` of the site's influence, never count as
    on.

    Memory: ``4 x items x width`` bytes per site.

    Args:
        sites: globs.
        on_rates: fractions of the items on which a detector is on.
        least_influence: the largest share of a site's influence that the neurons counted as idle have together.
        fewest: values with fewer items than this in either half are left out.
    """

    def __init__(
        self, sites: str | Iterable[str], on_rates: Sequence[float], least_influence: float, fewest: int
    ) -> None:
        super().__init__(sites)
        self.on_rates, self.least_influence, self.fewest = tuple(on_rates), least_influence, fewest

    def inapplicable(self, subject: Subject) -> str:
        known = ARRAY in subject.stories.packed.manifest["arrays"]
        return "" if known else "its texts ask for no known facts (data=grammar_tasks does)"

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        self.answered = subject.stories.packed.extra(ARRAY)
        self.kept: dict[str, list[Tensor]] = {site: [] for site in self.sites(subject.widths)}
        self.value: list[Int[np.ndarray, "item"]] = []
        self.odd: list[Mask] = []

    def update(self, seen: Seen) -> None:
        first = torch.cat([seen.story.new_ones(1, dtype=torch.bool), seen.story.diff() != 0])
        self.value.append(np.asarray(self.answered[seen.places[first].cpu().numpy()]).astype(np.int64))
        self.odd.append((seen.stories[seen.story[first]] % 2 == 1).cpu().numpy())
        for site, kept in self.kept.items():
            kept.append(seen.step.activations[site][first].float().cpu())

    def compute(self) -> Result:
        value, odd = np.concatenate(self.value), np.concatenate(self.odd)
        counts = np.stack([np.bincount(value[half], minlength=len(ANSWERED)) for half in (~odd, odd)])
        counted = counts.min(0) >= self.fewest
        values: dict[str, dict[str, float]] = {}
        arrays = {
            "value/name": Array(np.array(ANSWERED), ("value",)),
            "value/count": Array(counts.sum(0), ("value",), "items"),
        }
        for site, kept in self.kept.items():
            self.say(site)
            acts = torch.cat(kept)
            acts[:, idle(self.subject.influence[site], self.least_influence).cpu()] = 0  # a constant is never on
            everywhere = detected(acts, value, odd, self.on_rates)
            within = np.full(len(ANSWERED), np.nan)
            for asked in facts_of(value):
                some = value // len(ANSWERS) == asked
                found = detected(acts[torch.from_numpy(some)], value[some], odd[some], self.on_rates).f1
                within[asked * len(ANSWERS) :][: len(ANSWERS)] = found[asked * len(ANSWERS) :][: len(ANSWERS)]
            values[site] = _means("f1", everywhere.f1, counted) | _means("f1_within", within, counted)
            arrays |= {
                f"{site}/answered_f1": Array(everywhere.f1.astype(np.float32), ("value",)),
                f"{site}/answered_f1_within": Array(within.astype(np.float32), ("value",)),
                f"{site}/answered_neuron": Array(everywhere.neuron.astype(np.int32), ("value",)),
            }
        notes = {"items": f"{len(value)}, measured at the token before the answer"}
        return Result(by_layer(values) | {"values": float(counted.sum())}, arrays, notes)


class Best(NamedTuple):
    """For each value, the F1 of its best neuron on the odd items, and the neuron."""

    f1: Float[np.ndarray, "value"]
    neuron: Int[np.ndarray, "value"]


def detected(
    acts: Float[Tensor, "item width"], value: Int[np.ndarray, "item"], odd: Mask, rates: Sequence[float]
) -> Best:
    """Choose a neuron, sign and rate for each value on the even items, and measure its F1 on the odd ones."""
    choose, measure = (Labelled(value[half] // len(ANSWERS), value[half, None], len(ANSWERED)) for half in (~odd, odd))
    chosen_on, measured_on = acts[torch.from_numpy(~odd)], acts[torch.from_numpy(odd)]
    calibration = Calibration.of(chosen_on)
    best = np.full(len(ANSWERED), -np.inf)
    f1, neuron = np.zeros(len(ANSWERED)), np.zeros(len(ANSWERED), np.int64)
    for rate in rates:
        for sign in SIGNS:
            limit = threshold(calibration, rate, sign)
            said = choose.f1(_on(chosen_on, sign, limit))
            found = said.argmax(1)
            better = said.max(1) > best
            best = np.where(better, said.max(1), best)
            neuron = np.where(better, found, neuron)
            f1 = np.where(better, measure.f1_of(_on(measured_on, sign, limit)[:, found]), f1)
    return Best(f1, neuron)


def facts_of(value: Int[np.ndarray, "item"]) -> Iterator[int]:
    """The facts that some items ask for."""
    yield from np.unique(value // len(ANSWERS)).tolist()


def _on(acts: Float[Tensor, "item width"], sign: int, limit: Float[Tensor, "width"]) -> sparse.csr_array:
    return sparse.csr_array((sign * acts > limit).numpy(), dtype=np.float64)


def _means(name: str, f1: Float[np.ndarray, "value"], counted: Bool[np.ndarray, "value"]) -> dict[str, float]:
    """The mean over facts of the means over their counted values, and the latter."""
    facts = np.array([each.partition("=")[0] for each in ANSWERED])
    of_fact = {fact: float(f1[counted & (facts == fact)].mean()) for fact in dict.fromkeys(facts[counted].tolist())}
    mean = float(np.mean(list(of_fact.values()))) if of_fact else float("nan")
    return {name: mean} | {f"{name}_{fact}": each for fact, each in of_fact.items()}
