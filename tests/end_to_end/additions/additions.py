"""User-defined regularizers, a corpus and callbacks, in a separate file on PYTHONPATH."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tti.data import tokenizers
from tti.data.cache import EncodedStory, Maker
from tti.data.corpora import Corpus
from tti.regularizers.base import Regularizer
from tti.step import Step


class Linear(Regularizer):
    """A regularizer with parameters: the error of a jointly learned linear map from one site to itself."""

    def __init__(self, sites: str, weight: float, warmup: float, width: int) -> None:
        super().__init__(sites, weight, warmup)
        self.map = nn.Linear(width, width)

    def forward(self, step: Step) -> Tensor:
        acts = step.activations[self.sites[0]]
        return (self.map(acts) - acts).square().mean()


class Noisy(Regularizer):
    """A regularizer with its own generator, whose state is part of the checkpoint."""

    def __init__(self, sites: str, weight: float, warmup: float) -> None:
        super().__init__(sites, weight, warmup)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, step: Step) -> Tensor:
        return step.activations[self.sites[0]].square().mean() * torch.rand((), generator=self.generator)

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state)


class Breaking(Regularizer):
    """A regularizer that is NaN from its `after`-th call on."""

    def __init__(self, sites: str, weight: float, warmup: float, after: int) -> None:
        super().__init__(sites, weight, warmup)
        self.after, self.calls = after, 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        return step.activations[self.sites[0]].mean() * (float("nan") if self.calls > self.after else 1.0)


class Signalled(Callback):
    """Sends the process a signal in the middle of a step, once over all restarts; a file records that it has."""

    def __init__(self, number: int, step: int) -> None:
        self.once, self.number, self.step = Path(f"signalled-{number}"), number, step

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.step and not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), self.number)


class Answers(Corpus):
    """Text to text, byte by byte: words to copy or to reverse; the answer and its end-of-text token enter the loss."""

    label_values: Mapping[str, Sequence[str]] = {"task": ("copy", "reverse")}
    splits = ("train", "validation")

    def identity(self, split: str) -> dict[str, Any]:
        return {"answers": split}

    def label(self, split: str) -> str:
        return f"answers-{split}"

    def make(self, split: str) -> Maker:
        return Maker(f"writing {split}", tokenizers.train_bpe("bpe:257", iter(())), self._portions(split))

    def _portions(self, split: str) -> Iterator[list[EncodedStory]]:
        tokenizer, rng = tokenizers.train_bpe("bpe:257", iter(())), random.Random(split)
        for _ in range({"train": 120, "validation": 30}[split]):
            word, task = "".join(rng.choices("abcd", k=rng.randint(2, 6))), rng.randrange(2)
            ids = np.array(tokenizer.encode(f"{task}{word}={word[::-1] if task else word}").ids)
            predicting = (np.arange(len(ids)) > len(word)).astype(np.uint8)  # from the = onwards
            yield [{"tokens": ids, "answer": predicting, "task": np.full(len(ids), task, np.uint8)}]
