"""Modularity: which experts each task uses, and what each task loses without each expert."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, by_layer
from tti.evaluation.stories import SEED, Chunk
from tti.evaluation_folder import Array, Result
from tti.models.network import Network
from tti.models.taps import Tap, choose

LOGITS, GATES, POST = "router_logits", "gates", "post"


class Modularity(SitePart):
    """Information between experts and tasks, and the ablation matrix, layer by layer.

    **Information**, over a random sample of the tokens in the loss. ``E`` is an expert to which a token is assigned
    (each of its ``k`` with weight ``1/k``), ``T`` the value of its label, ``V`` its token type. In nats:
    ``expert_entropy`` is H(E); ``router_entropy`` H(E | x), the mean entropy of the router's softmax; ``information``
    I(E; T); and ``information_given_type`` I(E; T | V). For each information, ``…_null`` is its mean over permutations
    of T among the tokens of a type; ``…_excess`` is the difference from it, divided by H(T) (for I(E; T | V) by H(T |
    V)): 0 if experts follow only the token type, 1 if they also reveal the task where the type does not; ``…_p`` is the
    fraction of permutations with at least as much. ``utilisation`` (task × expert) is each expert's share of a task's
    assignments; ``coactivation`` the share of tokens assigned to both experts.

    **Ablation matrix**, over whole stories of about ``ablation_tokens`` tokens: the mean change of a task's loss, in
    nats, when one expert of one layer is ablated, in two ways. ``renormalised``: its gate is 0 and the token's other
    gates sum to 1. ``next``: the token goes to the expert with the next largest logit. ``…_error`` is the bootstrap
    standard error over stories. ``dominance``: under the best assignment of one expert to each task, the mean over
    tasks of the expert's change on its task minus its mean change on the other tasks. A task whose loss rises more
    than that of the others whatever is ablated adds nothing to it. ``dominance_p`` is its p-value under permutations of
    the tasks of the stories; it is undefined with fewer experts than tasks.

    **Controls**, to which dominance is compared: ``blocks`` are random blocks of hidden neurons as large as an expert,
    set to 0; a dense network has only this control, with ``blocks`` blocks. ``random`` is ``renormalised`` with an
    expert that each row draws for each story, so that a row stands for no expert: its dominance is noise. The null is
    the untrained network.

    How it can be gamed: experts that follow the wording of a task, or the position, have the full information;
    ``…_excess`` only discounts the token type. The matrix is in nats, so whatever makes the network fragile increases
    entries and dominance; the p-value does not depend on scale, and says that the effects of experts differ between
    tasks, not by how much. Redundant experts hide each other's effect.

    Args:
        sites: globs of hidden layers of MLPs.
        label: an integer label with at least two values.
        tokens: number of sampled tokens for the information.
        permutations: number of permutations of either kind.
        ablation_tokens: approximate tokens of the stories that are run with each expert ablated.
        blocks: number of random blocks in a network without experts.
        resamples: number of bootstrap resamples.
    """

    needs_nll = True

    def __init__(
        self,
        sites: str | Iterable[str],
        label: str,
        tokens: int,
        permutations: int,
        ablation_tokens: int,
        blocks: int,
        resamples: int,
    ) -> None:
        super().__init__(sites)
        self.label, self.tokens, self.permutations = label, tokens, permutations
        self.ablation_tokens, self.blocks, self.resamples = ablation_tokens, blocks, resamples

    def inapplicable(self, subject: Subject) -> str:
        values = subject.stories.label_values.get(self.label, ())
        return "" if len(values) > 1 else f"its stories have no label {self.label!r} of several values (data.labels)"

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        routed = [site for hidden in self._hidden(widths) for site in _routing(hidden) if site in widths]
        return tuple(routed)

    def _hidden(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        return choose(self.patterns, widths)

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        self.values = subject.stories.label_values[self.label]
        self.sample = torch.from_numpy(subject.stories.sample(self.tokens))
        self.kept: dict[str, list[Tensor]] = {site: [] for site in self.sites(subject.widths)}
        self.task: list[Tensor] = []
        self.type: list[Tensor] = []

    def update(self, seen: Seen) -> None:
        batch, rows = seen.step.batch, self.sample - seen.first
        rows = rows[(rows >= 0) & (rows < len(batch))].to(batch.tokens.device)
        self.task.append(batch.labels[self.label][rows].cpu())
        self.type.append(batch.types[rows].cpu())
        for site, kept in self.kept.items():
            kept.append(seen.step.activations[site][rows].float().cpu())

    def compute(self) -> Result:
        chunk = self.subject.stories.drawn(self.ablation_tokens).to(self.subject.device)
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {}
        for hidden in self._hidden(self.subject.widths):
            logits, gates = _routing(hidden)
            values[hidden] = {}
            if gates in self.kept:
                found, tables = self._information(torch.cat(self.kept[logits]), torch.cat(self.kept[gates]))
                values[hidden] |= found
                arrays |= {f"{hidden}/{name}": array for name, array in tables.items()}
            for way, taps in self._ways(hidden, chunk).items():
                self.say(f"{hidden}: {len(taps)} {way}")
                effects = effects_of(self.subject.net, chunk, self.label, len(self.values), taps)
                dominance, p = dominance_of(effects, self.permutations)
                values[hidden] |= {f"dominance_{way}": dominance, f"dominance_{way}_p": p}
                arrays[f"{hidden}/ablation_{way}"] = Array(effects.matrix(effects.task), ("expert", "task"), "nats")
                error = effects.errors(self.resamples)
                arrays[f"{hidden}/ablation_{way}_error"] = Array(error, ("expert", "task"), "nats")
        sample = f"{len(self.sample)} tokens; {len(chunk.batch)} for ablation"
        notes = {"tasks": ", ".join(self.values), "sample": sample}
        return Result(by_layer(values) | {"ablation_tokens": float(len(chunk.batch))}, arrays, notes)

    def _ways(self, hidden: str, chunk: Chunk) -> dict[str, list[Tap]]:
        """Kind of ablation -> taps that each ablate one expert or block."""
        widths = self.subject.widths
        logits, gates = _routing(hidden)
        experts = widths.get(gates, 0)
        generator = torch.Generator().manual_seed(SEED)
        shuffled = torch.randperm(widths[hidden], generator=generator)
        blocks = shuffled.to(self.subject.device).tensor_split(experts or self.blocks)
        ways: dict[str, list[Tap]] = {"blocks": [Changed(hidden, partial(without_neurons, block)) for block in blocks]}
        if experts:
            ways["renormalised"] = [Changed(gates, partial(without_gate, j)) for j in range(experts)]
            ways["next"] = [Changed(logits, partial(closed, j)) for j in range(experts)]
            drawn = torch.randint(experts, (len(chunk.stories),), generator=generator).to(chunk.story)[chunk.story]
            ways["random"] = [Changed(gates, partial(without_gate, (drawn + j) % experts)) for j in range(experts)]
        return ways

    def _information(
        self, logits: Float[Tensor, "row expert"], gates: Float[Tensor, "row expert"]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        task, kind = torch.cat(self.task).numpy(), torch.cat(self.type).numpy()
        assigned = (gates > 0).double().numpy()
        share = assigned / assigned.sum(1, keepdims=True).clip(1)
        tasks = len(self.values)
        h_task, h_task_given_type = conditional_entropies(task, kind, tasks)
        found = {
            "expert_entropy": entropy(share.mean(0)),
            "router_entropy": float(torch.special.entr(logits.double().softmax(-1)).sum(1).mean()),
            "task_entropy": h_task,
            "task_entropy_given_type": h_task_given_type,
        }
        measured = information(share, task, kind, tasks)
        generator = np.random.default_rng(SEED)
        permuted = [information(share, within(task, kind, generator), kind, tasks) for _ in range(self.permutations)]
        for i, (name, most) in enumerate((("information", h_task), ("information_given_type", h_task_given_type))):
            null = np.array([each[i] for each in permuted])
            found[name], found[f"{name}_null"] = measured[i], float(null.mean())
            found[f"{name}_excess"] = (measured[i] - float(null.mean())) / most if most > 0 else float("nan")
            found[f"{name}_p"] = float((1 + np.sum(null >= measured[i] - 1e-12)) / (1 + len(null)))
        by_task = _summed(share, task, tasks) / np.bincount(task, minlength=tasks).clip(1)[:, None]
        tables = {
            "utilisation": Array(by_task, ("task", "expert")),
            "coactivation": Array(assigned.T @ assigned / len(assigned), ("expert", "expert")),
        }
        return found, tables


class Changed:
    """A tap that changes the activation at one site, and uses no other site."""

    def __init__(self, site: str, change: Callable[[Tensor], Tensor]) -> None:
        self.site, self.change = site, change

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        return self.change(activation) if site == self.site else activation

    def hears(self, site: str) -> bool:
        """Whether this is the tap's site."""
        return site == self.site


def without_gate(
    expert: int | Int[Tensor, "token"], gates: Float[Tensor, "token expert"]
) -> Float[Tensor, "token expert"]:
    """Set the gate of an expert, or of each token's own, to 0, and rescale the token's other gates to sum to 1.

    They are all 0 if the expert was alone.
    """
    ablated = torch.as_tensor(expert, device=gates.device).expand(len(gates))[:, None]
    kept = gates.scatter(1, ablated, 0)
    total = kept.sum(1, keepdim=True)
    return torch.where(gates.gather(1, ablated) > 0, kept / total.where(total > 0, 1), gates)


def closed(expert: int, logits: Float[Tensor, "token expert"]) -> Float[Tensor, "token expert"]:
    """Set an expert's logits to minus infinity, so that no token can choose it."""
    return logits.index_fill(1, torch.tensor([expert], device=logits.device), -torch.inf)


def without_neurons(block: Int[Tensor, "some"], acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """Set some neurons to 0."""
    return acts.index_fill(1, block, 0)


@dataclass(frozen=True)
class Effects:
    """Changes of the loss under ablations, summed over the tokens of a story that belong to one task.

    Attributes:
        change: the summed change of each such *part* of a story, in nats.
        tokens: number of tokens of each part.
        task, story: its task and its story.
        tasks: number of tasks.
    """

    change: Float[np.ndarray, "tap part"]
    tokens: Int[np.ndarray, "part"]
    task: Int[np.ndarray, "part"]
    story: Int[np.ndarray, "part"]
    tasks: int

    def matrix(self, task: Int[np.ndarray, "part"]) -> Float[np.ndarray, "tap task"]:
        """Mean change per token under these tasks of the parts; NaN for tasks without tokens."""
        return self._mean(np.eye(self.tasks)[task])

    def errors(self, resamples: int) -> Float[np.ndarray, "tap task"]:
        """Bootstrap standard error over stories."""
        stories = int(self.story.max()) + 1
        generator = np.random.default_rng(SEED)
        drawn = generator.multinomial(stories, np.full(stories, 1 / stories), size=resamples)[:, self.story]
        of_task = np.eye(self.tasks)[self.task]
        return np.nanstd([self._mean(of_task * weight[:, None]) for weight in drawn], axis=0)

    def _mean(self, weight: Float[np.ndarray, "part task"]) -> Float[np.ndarray, "tap task"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.change @ weight / (self.tokens @ weight)


def effects_of(net: Network, chunk: Chunk, label: str, tasks: int, taps: Sequence[Tap]) -> Effects:
    """Run the network on the stories without and with each tap."""
    batch = chunk.batch
    cell, part = torch.unique(batch.rows(chunk.story) * tasks + batch.labels[label], return_inverse=True)
    unchanged = net.loss(batch.rows(net(batch.tokens, batch.stories)), batch.targets)[1].double()
    changes = []
    for tap in taps:
        changed = net.loss(batch.rows(net(batch.tokens, batch.stories, tap)), batch.targets)[1].double()
        changes.append(unchanged.new_zeros(len(cell)).index_add_(0, part, changed - unchanged).cpu().numpy())
    cells = cell.cpu().numpy()
    return Effects(np.stack(changes), part.bincount().cpu().numpy(), cells % tasks, cells // tasks, tasks)


def dominance_of(effects: Effects, permutations: int) -> tuple[float, float]:
    """How strongly each task depends on its own expert, in nats, and the p-value.

    NaN if a task has no tokens, or if there are fewer experts than tasks.
    """
    matrix = effects.matrix(effects.task)
    if not np.isfinite(matrix).all() or len(matrix) < effects.tasks:
        return float("nan"), float("nan")
    own = _dominance(matrix)
    generator = np.random.default_rng(SEED)
    null = [_dominance(effects.matrix(generator.permutation(effects.task))) for _ in range(permutations)]
    return own, float((1 + np.sum(np.array(null) >= own - 1e-12)) / (1 + permutations))


def _dominance(matrix: Float[np.ndarray, "expert task"]) -> float:
    tasks = matrix.shape[1]
    beyond = matrix - (matrix.sum(1, keepdims=True) - matrix) / (tasks - 1)  # minus the mean of the other tasks
    expert, task = linear_sum_assignment(beyond, maximize=True)
    return float(beyond[expert, task].mean())


def information(
    share: Float[np.ndarray, "row expert"], task: Int[np.ndarray, "row"], kind: Int[np.ndarray, "row"], tasks: int
) -> tuple[float, float]:
    """I(E; T) and I(E; T | V) in nats, of the empirical distribution."""
    by_task = _summed(share, task, tasks) / len(share)
    whole = entropy(by_task.sum(0)) + entropy(by_task.sum(1)) - entropy(by_task)
    kinds = int(kind.max()) + 1
    by_both = _summed(share, kind * tasks + task, kinds * tasks).reshape(kinds, tasks, -1) / len(share)
    given = entropy(by_both.sum(1)) + entropy(by_both.sum(2)) - entropy(by_both) - entropy(by_both.sum((1, 2)))
    return whole, given


def conditional_entropies(
    task: Int[np.ndarray, "row"], kind: Int[np.ndarray, "row"], tasks: int
) -> tuple[float, float]:
    """H(T) and H(T | V) in nats."""
    both = np.bincount(kind * tasks + task, minlength=(int(kind.max()) + 1) * tasks).reshape(-1, tasks) / len(task)
    return entropy(both.sum(0)), entropy(both) - entropy(both.sum(1))


def within(
    task: Int[np.ndarray, "row"], kind: Int[np.ndarray, "row"], generator: np.random.Generator
) -> Int[np.ndarray, "row"]:
    """The tasks permuted among the rows of each token type."""
    permuted = np.empty_like(task)
    permuted[np.argsort(kind, kind="stable")] = task[np.lexsort((generator.random(len(task)), kind))]
    return permuted


def entropy(probability: Float[np.ndarray, "..."]) -> float:
    """Entropy in nats of a distribution over all cells."""
    some = probability[probability > 0]
    return float(-(some * np.log(some)).sum())


def _summed(
    values: Float[np.ndarray, "row expert"], group: Int[np.ndarray, "row"], groups: int
) -> Float[np.ndarray, "group expert"]:
    columns = [np.bincount(group, weights=column, minlength=groups) for column in values.T]
    return np.stack(columns, 1)


def _routing(hidden: str) -> tuple[str, str]:
    """The sites of the router that belongs to a hidden layer."""
    scope = hidden.removesuffix(POST)
    return scope + LOGITS, scope + GATES
