"""Probes: what a linear classifier can predict from all activations of a site, or from one or a few neurons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tti.evaluation.base import Part, Seen, Subject, array, by_layer, mean_defined
from tti.evaluation.labels import Labels
from tti.evaluation.logistic import binary_probes, softmax_probes
from tti.evaluation.stories import SEED
from tti.evaluation_folder import Array, Result
from tti.models.taps import choose

SPLIT, CONTROL, TOKENS = 1, 2, 3  # streams of random numbers


class Probes(Part):
    """Probes at each site for the tasks of a source of labels, trained on some stories and tested on others.

    *Dense*: a multinomial logistic regression on all neurons, standardized on the training stories.

    ``accuracy`` is the fraction of correct predictions; ``macro_f1`` the mean of F1 over classes.
    ``accuracy_above_type`` subtracts ``type_accuracy``, the accuracy of predicting from the input token: the most
    frequent class of its type in the training stories (of all tokens, for unseen types).
    ``accuracy_ambiguous`` covers tokens whose type is outside its most frequent class at least ``ambiguous`` of the
    time.
    ``control_selectivity`` is ``accuracy - control_accuracy``, where the latter is that of a probe for a control task
    (Hewitt & Liang 2019, arXiv:1909.03368), in which every token type has one class, drawn at random with the
    frequencies of the classes.

    *k-sparse* (after Gurnee et al. 2023, arXiv:2305.01610): for each class against all others, a logistic regression on
    the k neurons with the largest absolute mean difference of standardized activations (F-statistics give the same
    order).

    ``sparse_<k>_f1`` is the mean of F1 over classes. Theirs weights both sides equally and cuts at 0; ours cuts where
    F1 is highest on the training stories, since class sizes differ widely here. ``always_f1`` is the F1 of always
    predicting the class.

    How it can be gamed: accuracy is high wherever the input token can be read off, even in random networks. A dense
    probe is invariant under rotation (up to standardization and the penalty), a sparse one is not. Mean differences
    select redundant neurons: five may know no more than one.

    Memory: ``2 tokens x width`` bytes per site.

    Args:
        labels: the source of labels.
        sites: globs of sites for dense probes.
        sparse_sites: globs of sites for k-sparse probes.
        story_tokens: approximate tokens of the whole stories that are drawn at random.
        tokens: number of tokens drawn at random from these stories.
        test: fraction of the stories used for testing.
        l2: penalty ``l2 / 2 ‖weights‖²`` on the summed loss; scikit-learn's ``1 / C``.
        ks: numbers of neurons of the sparse probes.
        ambiguous: see above.
        fewest: classes with fewer tokens than this, in training or test, have no F1.
    """

    def __init__(
        self,
        labels: Labels,
        sites: str | Iterable[str],
        sparse_sites: str | Iterable[str],
        story_tokens: int,
        tokens: int,
        test: float,
        l2: float,
        ks: Sequence[int],
        ambiguous: float,
        fewest: int,
    ) -> None:
        super().__init__()
        self.labels, self.patterns, self.sparse_patterns = labels, sites, sparse_sites
        self.story_tokens, self.tokens, self.test = story_tokens, tokens, test
        self.l2, self.ks, self.ambiguous, self.fewest = l2, tuple(ks), ambiguous, fewest

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*choose(self.patterns, widths), *choose(self.sparse_patterns, widths))))

    def inapplicable(self, subject: Subject) -> str:
        stories = subject.stories
        return self.labels.inapplicable(stories) if len(stories.lengths) > 1 else "there is one story only"

    def attach(self, subject: Subject) -> None:
        device, widths = subject.device, subject.widths
        self.dense, self.sparse = choose(self.patterns, widths), choose(self.sparse_patterns, widths)
        self.stories = subject.stories.subset(self.story_tokens)
        self.drawn_stories = torch.zeros(len(subject.stories.packed), dtype=torch.bool, device=device)
        self.drawn_stories[torch.from_numpy(self.stories.members).to(device)] = True
        available = self.stories.tokens
        count = min(self.tokens, available)
        drawn = np.random.default_rng((SEED, TOKENS)).choice(available, count, replace=False)
        self.drawn = torch.from_numpy(np.sort(drawn)).to(device)
        self.passed = self.filled = 0
        empty = torch.zeros(count, dtype=torch.int64, device=device)
        self.places, self.types, self.story = empty, empty.clone(), empty.clone()
        self.acts = {
            site: torch.zeros(count, widths[site], dtype=torch.float16, device=device) for site in self.sites(widths)
        }

    def update(self, seen: Seen) -> None:
        rows = self.drawn_stories[seen.stories][seen.story].nonzero()[:, 0]
        numbers, self.passed = self.drawn - self.passed, self.passed + len(rows)
        rows = rows[numbers[(numbers >= 0) & (numbers < len(rows))]]
        here = slice(self.filled, self.filled + len(rows))
        self.filled = here.stop
        self.places[here], self.types[here] = seen.places[rows], seen.step.batch.types[rows]
        self.story[here] = seen.stories[seen.story[rows]]
        for site, kept in self.acts.items():
            kept[here] = seen.step.activations[site][rows].half()

    def compute(self) -> Result:
        labelled = self.labels.of(self.stories, self.places.cpu().numpy())
        values = torch.from_numpy(labelled.values).to(self.places.device)
        known = (values >= 0).all(1)
        in_test = torch.from_numpy(held_out(self.stories.members, self.test)).to(values.device)
        story = self.story[known]
        examples = Examples(
            labelled.tasks, values[known], self.types[known], torch.isin(story, in_test), self.ambiguous, self.fewest
        )
        dense: dict[str, dict[str, float]] = {}
        sparse: dict[str, dict[str, float]] = {}
        arrays = examples.arrays()
        undefined = []
        for site, kept in self.acts.items():
            acts = standardised(kept[known].float(), examples.train)
            if not bool(acts.isfinite().all()):
                undefined.append(site)
                continue
            if site in self.dense:
                dense[site], found = examples.dense(acts, self.l2)
                arrays |= {f"{site}/{name}": each for name, each in found.items()}
            for k in self.ks if site in self.sparse else ():
                metrics, found = examples.sparse(acts, min(k, acts.shape[1]), self.l2)
                sparse.setdefault(site, {}).update({f"sparse_{k}_{name}": value for name, value in metrics.items()})
                arrays |= {f"{site}/sparse_{k}_{name}": each for name, each in found.items()}
        notes = dict(labelled.notes)
        if undefined:
            notes["left out"] = f"activations that are NaN, or exceed half precision, at {', '.join(undefined)}"
        sizes = {
            "train_stories": len(story[examples.train].unique()),
            "test_stories": len(story[examples.test].unique()),
            "train_tokens": int(examples.train.sum()),
            "test_tokens": int(examples.test.sum()),
        }
        return Result({**examples.floors(), **sizes, **by_layer(dense), **by_layer(sparse)}, arrays, notes)


def held_out(stories: Int[np.ndarray, "story"], fraction: float) -> Int[np.ndarray, "story"]:
    """The test stories: that fraction of the stories, at least one, but not all."""
    count = min(max(round(fraction * len(stories)), 1), len(stories) - 1)
    return np.random.default_rng((SEED, SPLIT)).permutation(stories)[:count]


def standardised(acts: Float[Tensor, "token width"], train: Bool[Tensor, "token"]) -> Float[Tensor, "token width"]:
    """Activations with mean 0 and standard deviation 1 on training tokens; 0 for neurons constant there."""
    scale, centre = torch.std_mean(acts[train], 0, correction=0)
    return (acts - centre) * torch.where(scale > 0, 1 / scale, 0)


@dataclass(frozen=True)
class Examples:
    """Labelled tokens, and the scores of probes on activations at them.

    Attributes:
        tasks: task -> its classes.
        labels: class index of each task.
        types: the input token's index among the split's types.
        test: whether the token belongs to a test story.
        ambiguous, fewest: see :class:`Probes`.
    """

    tasks: Mapping[str, Sequence[str]]
    labels: Int[Tensor, "token task"]
    types: Int[Tensor, "token"]
    test: Bool[Tensor, "token"]
    ambiguous: float
    fewest: int

    @cached_property
    def train(self) -> Bool[Tensor, "token"]:
        """Whether the token belongs to a training story."""
        return ~self.test

    @cached_property
    def sizes(self) -> list[int]:
        """Number of classes of each task."""
        return [len(classes) for classes in self.tasks.values()]

    # -- without activations ----------------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> list[Int[Tensor, "type class"]]:
        """For each task, the number of training tokens of each type and class."""
        n_types = int(self.types.max()) + 1
        types = self.types[self.train]
        return [
            torch.bincount(types * size + labels, minlength=n_types * size).view(n_types, size)
            for labels, size in zip(self.labels[self.train].T, self.sizes, strict=True)
        ]

    @cached_property
    def by_type(self) -> Int[Tensor, "token task"]:
        """Predictions from the input token alone."""
        tables = [torch.where(n.sum(1) > 0, n.argmax(1), n.sum(0).argmax()) for n in self.counts]
        return torch.stack([table[self.types] for table in tables], 1)

    @cached_property
    def is_ambiguous(self) -> Bool[Tensor, "token task"]:
        """Whether the token's type has several classes in the training stories."""
        shares = [1 - n.amax(1) / n.sum(1).clamp_min(1) for n in self.counts]
        seen = self.counts[0].sum(1) > 0
        return torch.stack([((share >= self.ambiguous) & seen)[self.types] for share in shares], 1)

    @cached_property
    def control(self) -> Int[Tensor, "token task"]:
        """A random class for each token type, drawn with the frequencies of the classes."""
        draw = np.random.default_rng((SEED, CONTROL))
        n_types = int(self.types.max()) + 1
        drawn = []
        for labels, size in zip(self.labels.T, self.sizes, strict=True):
            frequency = torch.bincount(labels, minlength=size).double().cpu().numpy()
            table = torch.from_numpy(draw.choice(size, n_types, p=frequency / frequency.sum())).to(labels.device)
            drawn.append(table[self.types])
        return torch.stack(drawn, 1)

    def floors(self) -> dict[str, float]:
        """Scores that need no activations."""
        majority = torch.stack([n.sum(0).argmax() for n in self.counts])
        right, sure = (self.by_type == self.labels).double(), ~self.is_ambiguous
        named = {
            "majority_accuracy": (majority == self.labels)[self.test].double().mean(0),
            "type_accuracy": right[self.test].mean(0),
            "type_accuracy_ambiguous": right.masked_fill(sure, torch.nan)[self.test].nanmean(0),
            "ambiguous": self.is_ambiguous[self.test].double().mean(0),
            "always_f1": self._macro(2 * self.share / (1 + self.share)),
        }
        return self._named(named)

    def arrays(self) -> dict[str, Array]:
        """The classes of all tasks, concatenated."""
        pairs = [(task, name) for task, names in self.tasks.items() for name in names]
        return {
            "class/task": Array(np.array([task for task, _ in pairs]), ("class",)),
            "class/name": Array(np.array([name for _, name in pairs]), ("class",)),
            "class/train": array(self.one_hot[self.train].sum(0), "class", unit="tokens"),
            "class/test": array(self.one_hot[self.test].sum(0), "class", unit="tokens"),
        }

    # -- dense ------------------------------------------------------------------------------------------------------

    def dense(self, acts: Float[Tensor, "token width"], l2: float) -> tuple[dict[str, float], dict[str, Array]]:
        """Metrics and arrays of dense probes on these activations."""
        wanted = torch.cat([self.labels, self.control], 1)
        probes = softmax_probes(acts[self.train], wanted[self.train], l2)
        found, control = torch.stack([probe.predict(acts[self.test]) for probe in probes], 1).chunk(2, 1)
        labels = self.labels[self.test]
        right = (found == labels).double()
        accuracy = right.mean(0)
        control_accuracy = (control == self.control[self.test]).double().mean(0)
        confusion = [
            torch.bincount(true * size + said, minlength=size * size).view(size, size)
            for true, said, size in zip(labels.T, found.T, self.sizes, strict=True)
        ]
        f1 = torch.cat([2 * n.diagonal() / (n.sum(0) + n.sum(1)) for n in confusion])
        f1 = f1.masked_fill(~self.counted, torch.nan)
        named = {
            "accuracy": accuracy,
            "macro_f1": self._macro(f1),
            "accuracy_above_type": accuracy - (self.by_type == self.labels)[self.test].double().mean(0),
            "accuracy_ambiguous": right.masked_fill(~self.is_ambiguous[self.test], torch.nan).nanmean(0),
            "control_accuracy": control_accuracy,
            "control_selectivity": accuracy - control_accuracy,
        }
        arrays = {
            f"confusion/{task}": array(n.int(), "true", "predicted")
            for task, n in zip(self.tasks, confusion, strict=True)
        }
        return self._named(named), {"class_f1": array(f1.float(), "class"), **arrays}

    # -- sparse -----------------------------------------------------------------------------------------------------

    @cached_property
    def one_hot(self) -> Bool[Tensor, "token class"]:
        """Class membership of each token, with the classes of all tasks concatenated."""
        each = zip(self.labels.T, self.sizes, strict=True)
        return torch.cat([F.one_hot(labels, size) for labels, size in each], 1).bool()

    @cached_property
    def counted(self) -> Bool[Tensor, "class"]:
        """Classes that are present often enough, and absent often enough, in training and in test."""
        enough = [
            (yes >= self.fewest) & (len(part) - yes >= self.fewest)
            for part in (self.one_hot[self.train], self.one_hot[self.test])
            for yes in [part.sum(0)]
        ]
        return enough[0] & enough[1]

    @cached_property
    def share(self) -> Float[Tensor, "class"]:
        """Each class's share of the test tokens; NaN for a class that does not count."""
        return self.one_hot[self.test].double().mean(0).masked_fill(~self.counted, torch.nan)

    def sparse(
        self, acts: Float[Tensor, "token width"], k: int, l2: float
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Metrics and arrays of probes on k neurons, one for each class that counts."""
        labels = self.one_hot[:, self.counted].T
        neurons = most_different(acts[self.train], labels[:, self.train], k)
        seen = acts[:, neurons].transpose(0, 1)  # [class, token, k]
        weight, bias = binary_probes(seen[:, self.train], labels[:, self.train], l2)
        scores = (seen * weight[:, None]).sum(2) + bias[:, None]
        threshold = best_threshold(scores[:, self.train], labels[:, self.train])
        said, true = (scores > threshold[:, None])[:, self.test], labels[:, self.test]
        hits = (said & true).sum(1)
        f1 = torch.full_like(self.share, torch.nan)
        f1[self.counted] = 2 * hits.double() / (said.sum(1) + true.sum(1))
        chosen = torch.full((len(f1), k), -1, device=f1.device)
        chosen[self.counted] = neurons
        named = self._named({"f1": self._macro(f1)})
        return named, {"f1": array(f1.float(), "class"), "neuron": array(chosen.int(), "class", "rank")}

    def _macro(self, values: Float[Tensor, "class"]) -> Float[Tensor, "task"]:
        """Mean over the classes of each task, without NaN."""
        return torch.stack([each.nanmean() for each in values.double().split(self.sizes)])

    def _named(self, values: Mapping[str, Float[Tensor, "task"]]) -> dict[str, float]:
        """The mean over tasks, followed by each task's own value if there are several."""
        named = {name: mean_defined(each) for name, each in values.items()}
        if len(self.tasks) > 1:
            for name, each in values.items():
                named |= {f"{name}_{task}": float(value) for task, value in zip(self.tasks, each, strict=True)}
        return named


def most_different(
    acts: Float[Tensor, "token width"], labels: Bool[Tensor, "class token"], k: int
) -> Int[Tensor, "class k"]:
    """The k neurons whose means differ most between the class and the rest, largest difference first."""
    yes = labels.to(acts)
    count = yes.sum(1, keepdim=True)
    total = acts.sum(0)
    inside = yes @ acts
    return (inside / count - (total - inside) / (len(acts) - count)).abs().topk(k, 1).indices


def best_threshold(scores: Float[Tensor, "class token"], labels: Bool[Tensor, "class token"]) -> Float[Tensor, "class"]:
    """The cut with the highest F1, midway between two scores; above it means yes, and ties take the highest cut."""
    ordered, order = scores.sort(1, descending=True)
    hits = labels.gather(1, order).cumsum(1)
    said = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    f1 = 2 * hits.double() / (said + hits[:, -1:])
    following = F.pad(ordered[:, 1:], (0, 1), value=-torch.inf)
    f1 = f1.masked_fill(ordered == following, -1)  # no cut between equal scores
    best = f1.argmax(1, keepdim=True)
    upper, lower = ordered.gather(1, best)[:, 0], following.gather(1, best)[:, 0]
    return (upper + lower) / 2
