"""Disentanglement: whether the latents of a sentence autoencoder stand, one by one, for the sentences' factors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.data import sentences
from tti.data.sentences import FACTORS, STYLE, TABLE
from tti.evaluation import codes
from tti.evaluation.base import Part, Subject
from tti.evaluation.writing import Writing, bleu
from tti.evaluation_folder import Array, Result
from tti.measures import normal_divergence
from tti.models.autoencoder import LOG_VARIANCE, MEAN, Autoencoder
from tti.models.taps import Recorder

DRAWN = 2**20  # seed of the sentences that are coded: those of no corpus
QUANTILES = (0.05, 0.95)  # of a latent over sentences: where an intervention moves it
STEPS = 7  # of a traversal, from the low to the high quantile
FEWEST = 10  # parsed pairs from which the changes of an intervention are counted

Trees = Callable[[], Any]


class Disentanglement(Part):
    """Scores of the code, what the decoder makes of it, and what moving a latent changes in the sentences it writes.

    The code of a sentence is the mean of its latent. New sentences are drawn from the factor tuples of the split, with
    an assertion that the factors are independent. Scores (:mod:`tti.evaluation.codes`) are of the ten factors, over
    active latents, and stand beside

    * ``ceiling_scalar/`` and ``ceiling_one_hot/``: the same scores of two ideal codes;
    * ``rotated/``: of a random rotation of the code: what does not belong to single latents;
    * ``shuffled/``: of the code of other sentences: what counting and fitting alone give.

    Without an active latent there are no scores. The untrained network is the subject ``random_init``.

    **Use.** ``loss`` and ``token_accuracy`` of the sentences given their codes and their preceding tokens; ``bleu``
    (sacrebleu), ``exact`` and ``parsed`` (the share that the parser accepts) of the sentences written from the code
    alone. With ``_shuffled`` the decoder gets the codes of other sentences: if it ignores them, nothing changes.
    ``exact_held_out`` is on pairs of agent and place that training lacks.

    **Interventions.** A latent is moved from its 5 % to its 95 % quantile, the others stay; both codes are decoded and
    parsed. ``change`` is the share of sentences in which each factor differs. ``specificity`` is how far a latent's
    changes concentrate on one factor (as InfoM, averaged over active latents that change anything), and
    ``specificity_rotated`` the same for random directions. ``paraphrase`` is the squared distance of the codes of two
    sentences with the same factors over that of any two: 0 if the code ignores the style.

    How it can be gamed: information scores by latents that the decoder does not read (compare ``specificity``);
    equal-width bins by one outlier (compare ``_rank``); ``token_accuracy`` by a decoder that needs no code (compare
    ``_shuffled``). A single scalar per factor and one latent per value score differently in all of them: compare with
    the nearer ceiling.

    Args:
        learned: sentences to learn from.
        measured: sentences to measure on.
        fitted: sentences to learn from, and half as many to measure on, for trees and support vector machines.
        written: sentences that are decoded.
        moved: sentences in which each latent is moved.
        shown: sentences whose traversals are kept.
        bins: bins of a latent.
        trees: makes the estimator for DCI (with ``feature_importances_``).
        value_trees: the same for its form per value.
    """

    streams = False

    def __init__(
        self,
        learned: int,
        measured: int,
        fitted: int,
        written: int,
        moved: int,
        shown: int,
        bins: int,
        trees: Trees,
        value_trees: Trees,
    ) -> None:
        super().__init__()
        self.learned, self.measured, self.fitted, self.bins = learned, measured, fitted, bins
        self.written, self.moved, self.shown = written, moved, shown
        self.trees, self.value_trees = trees, value_trees

    def inapplicable(self, subject: Subject) -> str:
        if not isinstance(subject.net, Autoencoder):
            return "its network has no latent (model=autoencoder has)"
        known = TABLE.keys() <= subject.stories.packed.manifest["arrays"].keys()
        return "" if known else "its corpus has no table of factors (data=sentences has)"

    def attach(self, subject: Subject) -> None:
        self.subject = subject

    def compute(self) -> Result:
        stories = self.subject.stories
        table = taken(sentences.drawn(DRAWN, stories.split), self.learned + self.measured)
        sentences.require_independent(table[:, : len(FACTORS)], tuple(FACTORS))
        net = cast(Autoencoder, self.subject.net)
        writing = Writing(net, sentences.tokenizer(), stories.layout)
        self.say("coding sentences")
        coded = Coded.of(writing, table)
        metrics = {"active_units": float(len(coded.active)), "latents": float(coded.mean.shape[1])}
        arrays = {"latent/variance": Array(coded.mean.var(0).astype(np.float32), ("latent",))}
        notes = {"factors": ", ".join(FACTORS), "style": ", ".join(STYLE)}
        if coded.kl is not None:
            metrics["kl"] = float(coded.kl.sum())
            arrays["latent/kl"] = Array(coded.kl.astype(np.float32), ("latent",), "nats")
        self.say("decoding")
        metrics |= self._used(writing, coded)
        if len(coded.active):
            metrics |= self._scores(coded) | {"paraphrase": self._paraphrase(writing, coded)}
            moved, tables = self._interventions(writing, coded)
            metrics |= moved
            arrays |= tables
        else:
            notes["collapsed"] = (
                f"no latent varies by more than {codes.ACTIVE}: the code says nothing, and has no scores"
            )
        return Result(metrics, arrays, notes)

    def _used(self, writing: Writing, coded: "Coded") -> dict[str, float]:
        some = slice(0, self.written)
        texts, code = coded.texts[some], coded.mean[some]
        other = np.roll(code, 1, 0)  # sentences are independent: the code of another one
        metrics: dict[str, float] = {}
        for suffix, given in (("", code), ("_shuffled", other)):
            loss, accuracy = writing.read(texts, given)
            said = writing.write(given)
            exact = np.array([one == text for one, text in zip(said, texts, strict=True)])
            parsed = np.mean([sentences.parse(one) is not None for one in said])
            metrics |= {f"loss{suffix}": loss, f"token_accuracy{suffix}": accuracy, f"bleu{suffix}": bleu(said, texts)}
            metrics |= {f"exact{suffix}": float(exact.mean()), f"parsed{suffix}": float(parsed)}
            if not suffix:
                rare = sentences.held_out(coded.table[some])
                metrics["exact_held_out"] = float(exact[rare].mean()) if rare.any() else float("nan")
        return metrics

    def _scores(self, coded: "Coded") -> dict[str, float]:
        code, table = coded.mean[:, coded.active], coded.table[:, : len(FACTORS)]
        settings = self.learned, self.fitted, self.bins, self.trees, self.value_trees
        found: dict[str, float] = {}
        for name, each in {
            "": code,
            "rotated/": code @ codes.rotation(code.shape[1]),
            "shuffled/": np.roll(code, 1, 0),
        }.items():
            self.say(f"scores {name}")
            found |= {f"{name}{score}": value for score, value in codes.scores(each, table, *settings)}
        self.say("ceilings")
        return found | ceilings(self.subject.stories.split, len(table), *settings[:3], _Trees(*settings[3:]))

    def _paraphrase(self, writing: Writing, coded: "Coded") -> float:
        """Distance of the codes of sentences that differ in style only, over that of any two sentences."""
        some = coded.table[: self.written].copy()
        columns = [list(TABLE).index(name) for name in STYLE]
        some[:, columns] = np.roll(some[:, columns], 1, 0)
        code, again = coded.mean[: self.written], Coded.of(writing, some).mean
        apart = np.square(code - np.roll(code, 1, 0)).sum(1).mean()
        return float(np.square(code - again).sum(1).mean() / apart)

    def _interventions(self, writing: Writing, coded: "Coded") -> tuple[dict[str, float], dict[str, Array]]:
        latents = coded.mean.shape[1]
        metrics: dict[str, float] = {}
        arrays: dict[str, Array] = {}
        for suffix, basis in (("", np.eye(latents)), ("_rotated", codes.rotation(latents))):
            self.say(f"interventions {suffix}")
            change, parsed = changes(writing, coded.mean, basis, self.moved)
            units = coded.active if not suffix else np.arange(latents)
            metrics[f"specificity{suffix}"] = codes.concentration(np.nan_to_num(change[units]))
            metrics[f"moved_parsed{suffix}"] = parsed
            arrays[f"intervention/change{suffix}"] = Array(change.astype(np.float32), ("latent", "factor"))
        texts = traversals(writing, coded.mean, self.shown)
        arrays["traversal/text"] = Array(texts, ("sentence", "latent", "step"))
        arrays["traversal/original"] = Array(np.array(coded.texts[: self.shown]), ("sentence",))
        arrays["traversal/written"] = Array(np.array(writing.write(coded.mean[: self.shown])), ("sentence",))
        arrays["factor/name"] = Array(np.array(list(TABLE)), ("factor",))
        return metrics, arrays


@dataclass(frozen=True)
class Coded:
    """Sentences with their codes.

    Attributes:
        table: the sentences' factors and style, ``[sentence, column]``.
        texts: the sentences.
        mean: the means of their latents.
        kl: mean KL of each latent in nats; None without noise.
    """

    table: Int[np.ndarray, "sentence column"]
    texts: list[str]
    mean: Float[np.ndarray, "sentence latent"]
    kl: Float[np.ndarray, "latent"] | None

    @classmethod
    def of(cls, writing: Writing, table: Int[np.ndarray, "sentence column"]) -> "Coded":
        """The codes of the sentences of a table."""
        texts = [sentences.write(sentences.values_of(row)) for row in table]
        recorder_sites = {MEAN, LOG_VARIANCE} & writing.net.sites.keys()
        found = [recorded(writing, some, recorder_sites) for some in writing.batches(texts)]
        mean = torch.cat([each[MEAN] for each in found])
        kl = None
        if LOG_VARIANCE in recorder_sites:
            kl = normal_divergence(mean, torch.cat([each[LOG_VARIANCE] for each in found])).double().mean(0).numpy()
        return cls(table, texts, mean.double().numpy(), kl)

    @property
    def active(self) -> Int[np.ndarray, "unit"]:
        """The active latents."""
        return codes.active(self.mean)


def recorded(writing: Writing, texts: list[str], sites: set[str]) -> dict[str, Tensor]:
    """The means and log variances of some sentences, on the CPU."""
    recorder = Recorder(sites)
    batch = writing.batch(texts)
    writing.net.encoded(batch.tokens, batch.layout, recorder)
    return {site: activation.cpu() for site, activation in recorder.activations.items()}


def taken(blocks: Iterator[Int[np.ndarray, "sentence column"]], count: int) -> Int[np.ndarray, "sentence column"]:
    """The first ``count`` sentences of blocks, without their ranks."""
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < count:
        kept.append(next(blocks)[:, : len(TABLE)])
    return np.concatenate(kept)[:count]


@dataclass(frozen=True)
class _Trees:
    """Estimators, equal to others that are written the same."""

    trees: Trees
    value_trees: Trees

    def __hash__(self) -> int:
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)


@cache
def ceilings(split: str, count: int, learned: int, fitted: int, bins: int, estimators: _Trees) -> dict[str, float]:
    """Scores of the ideal codes of the sentences that are coded; the same for every run, so computed once."""
    table = taken(sentences.drawn(DRAWN, split), count)[:, : len(FACTORS)]
    ideal = {"ceiling_scalar": codes.scalar_code(table), "ceiling_one_hot": codes.one_hot_code(table)}
    settings = learned, fitted, bins, estimators.trees, estimators.value_trees
    return {
        f"{name}/{score}": value
        for name, code in ideal.items()
        for score, value in codes.scores(code, table, *settings)
    }


def changes(
    writing: Writing,
    code: Float[np.ndarray, "sentence latent"],
    basis: Float[np.ndarray, "latent direction"],
    count: int,
) -> tuple[Float[np.ndarray, "direction factor"], float]:
    """For each direction, the share of sentences whose factors differ between its two ends, and the share parsed.

    Args:
        writing: the decoder.
        code: codes of sentences; their quantiles along a direction are its ends.
        basis: orthonormal directions.
        count: sentences, from the first, in which each direction is moved.
    """
    along = code @ basis
    ends = np.quantile(along, QUANTILES, axis=0)
    found, parsed = [], []
    for direction in range(basis.shape[1]):
        at = [
            code[:count] + np.outer(end - along[:count, direction], basis[:, direction]) for end in ends[:, direction]
        ]
        low, high = ([sentences.parse(text) for text in writing.write(each)] for each in at)
        pairs = [(one, other) for one, other in zip(low, high, strict=True) if one and other]
        parsed.append(len(pairs) / count)
        differ = [[one[name] != other[name] for name in TABLE] for one, other in pairs]
        found.append(np.mean(differ, 0) if len(pairs) >= FEWEST else np.full(len(TABLE), np.nan))
    return np.array(found), float(np.mean(parsed))


def traversals(
    writing: Writing, code: Float[np.ndarray, "sentence latent"], count: int
) -> "np.ndarray[Any, np.dtype[np.str_]]":
    """``[sentence, latent, step]``: what the decoder writes as each latent moves from its low to its high quantile."""
    latents = code.shape[1]
    low, high = np.quantile(code, QUANTILES, axis=0)
    steps = np.linspace(low, high, STEPS)
    moved = np.tile(code[:count, None, None], (1, latents, STEPS, 1))
    for latent in range(latents):
        moved[:, latent, :, latent] = steps[:, latent]
    return np.array(writing.write(moved.reshape(-1, latents))).reshape(count, latents, STEPS)
