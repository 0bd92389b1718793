"""A corpus of answers to prompts: only the answers enter the loss, and each task has its own loss."""

import pytest
import torch
from commands import rows, summary

from tti.runs import Run

ANSWERS = [
    "model=tiny", "model.d_model=16", "model.n_heads=2", "model.context=32", "data=stream",
    "+data.corpus={_target_: additions.Answers, cache_dir: cache}", "data.labels=[task]", "data.scored=answer",
    "data.stories_per_step=8", "trainer.max_steps=12", "trainer.val_check_interval=6", "trainer.log_every_n_steps=4",
    "regularizer=[l1,orthogonality]", "optimizer.lr=3e-3", "variant=answers",
]  # fmt: skip


def test_only_answers_are_in_the_loss_and_tasks_are_logged_apart(tti):
    tti(*ANSWERS, "run_dir=run").ok()
    figures, entries = summary(tti.folder / "run")["metrics"], rows(tti.folder / "run")
    packed = Run(tti.folder / "run").config
    assert packed.data.labels == ["task"]
    answers = torch.tensor([figures[f"val/loss/{task}"] for task in ("copy", "reverse")])
    assert answers.min() < figures["val/loss"] < answers.max()
    assert 30 * 3 <= figures["val/tokens"] <= 30 * 7  # letters and the end-of-text token of each answer
    assert {"train/ce/copy", "train/ce/reverse"} <= entries[-1].keys()
    assert entries[-1]["train/tokens"] < 12 * 8 * 7 + 1


def test_it_resumes(tti):
    tti(*ANSWERS, "run_dir=straight").ok()
    for step in (1, 2):
        assert f"stopped at step {step}" in tti(*ANSWERS, "run_dir=run", "callbacks.last.max_hours=1e-9").failed()
    tti(*ANSWERS, "run_dir=run").ok()
    assert rows(tti.folder / "run")[-1] == rows(tti.folder / "straight")[-1]
    assert summary(tti.folder / "run")["metrics"]["val/loss"] == summary(tti.folder / "straight")["metrics"]["val/loss"]


@pytest.mark.parametrize(("change", "message"), [
    ("data.labels=[tusk]", "has no array 'tusk'; it has"),
    ("data.scored=tusk", "has no array 'tusk'; it has"),
    ("data.max_length=3", "of 120 stories in .* have no token in the loss"),
])  # fmt: skip
def test_what_the_corpus_lacks_is_an_error(tti, change, message):
    import re

    assert re.search(message, tti(*ANSWERS, "run_dir=run", change).failed())
