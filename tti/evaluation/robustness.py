"""Robustness: what the loss and the predictions do when words of the context are changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Part, Subject
from tti.evaluation.edits import Edit, Edited
from tti.evaluation.stories import Chunk
from tti.evaluation_folder import Result
from tti.models.autoencoder import Autoencoder

ROWS = 1024  # predictions whose logits are held at a time


class Robustness(Part):
    """Loss and next-token predictions under edits of the stories, on targets that the edits leave alone.

    A story is read twice, as it is and after an edit. Compared are the predictions of the same target tokens, those
    that the edit has left where it has changed what precedes them (:func:`tti.evaluation.edits.edited`). For each edit:

    * ``clean`` and ``edited``: their loss before and after, nats per token; ``increase``, the difference;
    * ``relative``: the increase over what context is worth, the clean loss below that of the split's own token
      frequencies on the same targets. Undefined for a network that predicts no better than these;
    * ``changed``: share of the targets at which another token has become the most likely one;
    * ``kl``: mean KL of the next-token distribution after the edit from that before, in nats;
    * ``edits``: tokens replaced or removed, per token of the stories.

    Null: an edit of nothing has 0 exactly; ``random`` is the null of ``gradient``, ``other_sense`` the counterpart of
    ``synonym``. Ceiling: ``other_story``.

    How it can be gamed: a network that ignores its context is robust to everything. So compare networks of equal clean
    loss, or ``relative``; and even that is small in a network that reads the last token only. Gradients that vanish
    hide from ``gradient``, but not from ``random``.

    Memory: the hidden states and, for the gradient, the activations of one chunk; the logits of ``ROWS`` tokens.

    Args:
        tokens: approximate tokens of the stories.
        edits: the edits, by name.
    """

    streams = False

    def __init__(self, tokens: int, edits: Mapping[str, Edit]) -> None:
        super().__init__()
        self.tokens, self.edits = tokens, edits

    def inapplicable(self, subject: Subject) -> str:
        if subject.stories.scored is not None:
            return "only some tokens of its texts are in the loss (data.scored), and an edit may change the right ones"
        return "its network reads the sentence that it writes" if isinstance(subject.net, Autoencoder) else ""

    def attach(self, subject: Subject) -> None:
        self.subject = subject

    def compute(self) -> Result:
        subject = self.subject
        reasons = {name: edit.inapplicable(subject) for name, edit in self.edits.items()}
        edits = {name: edit for name, edit in self.edits.items() if not reasons[name]}
        for edit in edits.values():
            edit.attach(subject)
        surprisal = _surprisal(subject)
        totals = {name: torch.zeros(len(SUMS), dtype=torch.float64) for name in edits}
        changed = dict.fromkeys(edits, 0)
        stories = subject.stories.subset(self.tokens)
        for number, chunk in enumerate(stories, 1):
            self.say(f"{number} of {len(stories)} chunks")
            chunk = chunk.to(subject.device)
            hidden = subject.net(chunk.batch.tokens, chunk.batch.stories)
            for name, edit in edits.items():
                found = edit(chunk)
                totals[name] += self._compared(chunk, hidden, found, surprisal)
                changed[name] += sum(each.changed for each in found)
        metrics: dict[str, float] = {}
        for name, total in totals.items():
            of = figures(dict(zip(SUMS, total.tolist(), strict=True))) | {"edits": changed[name] / stories.tokens}
            metrics |= {f"{figure}/{name}": value for figure, value in of.items()}
        left_out = {name: f"left out: {reason}" for name, reason in reasons.items() if reason}
        return Result(metrics | {"tokens": float(stories.tokens)}, {}, left_out)

    def _compared(
        self, chunk: Chunk, hidden: Float[Tensor, "token d"], found: Sequence[Edited], surprisal: Float[Tensor, "vocab"]
    ) -> Float[Tensor, "sum"]:
        """The sums over the compared targets of a chunk."""
        net, batch, device = self.subject.net, chunk.batch, hidden.device
        tokens = torch.from_numpy(np.concatenate([each.tokens for each in found])).to(device)
        lengths = [len(each.tokens) for each in found]
        layout = replace(self.subject.stories.layout(lengths).to(device), group=batch.stories.group)
        changed = net(tokens, layout)
        before = _rows([each.before for each in found], batch.stories.lengths).to(device)
        after = _rows([each.after for each in found], lengths).to(device)
        head = self.subject.head or net.logits
        total = torch.zeros(len(SUMS), dtype=torch.float64)
        for old, new in zip(before.split(ROWS), after.split(ROWS), strict=True):
            clean, edited = (head(each).float().log_softmax(-1) for each in (hidden[old], changed[new]))
            target = batch.targets[old, None]
            each = (
                torch.ones(len(old), device=device),
                -clean.gather(1, target),
                -edited.gather(1, target),
                surprisal[target],
                clean.argmax(1) != edited.argmax(1),
                (clean.exp() * (clean - edited)).sum(1),
            )
            total += torch.stack([values.sum(dtype=torch.float64) for values in each]).cpu()
        return total


SUMS = ("count", "clean", "edited", "frequencies", "changed", "kl")


def figures(sums: Mapping[str, float]) -> dict[str, float]:
    """The figures of an edit from its sums over targets; NaN if there is none."""
    count = sums["count"] or float("nan")
    mean = {name: sums[name] / count for name in SUMS}
    increase, worth = mean["edited"] - mean["clean"], mean["frequencies"] - mean["clean"]
    return {
        "clean": mean["clean"],
        "edited": mean["edited"],
        "increase": increase,
        "relative": increase / worth if worth > 0 else float("nan"),
        "changed": mean["changed"],
        "kl": mean["kl"],
    }


def _rows(rows: Sequence[np.ndarray], lengths: Sequence[int]) -> Tensor:
    """Rows of single stories as rows of the chunk that concatenates them."""
    starts = np.cumsum([0, *lengths[:-1]])
    return torch.from_numpy(np.concatenate([each + start for each, start in zip(rows, starts, strict=True)]))


def _surprisal(subject: Subject) -> Float[Tensor, "vocab"]:
    """Minus the log of each token's share of the split; infinite for tokens that do not occur."""
    types = torch.from_numpy(subject.stories.types)
    counts = torch.zeros(int(types.max()) + 1, dtype=torch.float64)
    counts[types] = subject.stories.type_counts.double()
    return -(counts / counts.sum()).log().to(subject.device)
