"""The constraint and the task of docs/extending.md, added with two files each: they train, resume, and say so."""

import re
from pathlib import Path

import pytest
import torch
from commands import Commands, rows, summary
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from tti.runs import Run

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def blocks(heading, language):
    """The code of a language under a heading of the page."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def add(folder: Path, heading: str, group: str) -> list[str]:
    """Add the class and the YAML under a heading, outside the package; the arguments that find them."""
    (python,), (yaml,) = blocks(heading, "python"), blocks(heading, "yaml")
    module = re.search(r"_target_: ([\w.]+)\.\w+", yaml)[1]
    name = module.rpartition(".")[2]
    (folder / f"{name}.py").write_text(python)
    target = folder / "my_conf" / group / f"{name}.yaml"
    target.parent.mkdir(parents=True)
    target.write_text(yaml.replace(module, name))
    return ["--config-dir", "my_conf", f"{group}={name}"]


def trained_twice(tti: Commands, *arguments: str) -> tuple[Path, Path]:
    """A straight run, and one that was stopped twice."""
    path = {"PYTHONPATH": str(tti.folder)}
    tti(*arguments, *SMALL, "run_dir=straight", **path).ok()
    for _ in range(2):
        tti(*arguments, *SMALL, "run_dir=resumed", "callbacks.last.max_hours=1e-9", **path).failed()
    tti(*arguments, *SMALL, "run_dir=resumed", **path).ok()
    return tti.folder / "straight", tti.folder / "resumed"


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_the_constraint_of_the_page_holds_at_the_end_and_after_resuming(tti):
    straight, resumed = trained_twice(tti, *add(tti.folder, "A constraint", "constraint"))
    assert rows(resumed)[-1] == rows(straight)[-1]
    one, other = state(straight), state(resumed)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    kept = {name: (weight != 0).double().mean().item() for name, weight in one.items() if ".mlp." in name}
    assert len(kept) == 4
    assert all(fraction == pytest.approx(0.1, abs=1e-3) for fraction in kept.values())
    assert all((weight != 0).all() for name, weight in one.items() if name.endswith("attn.qkv.weight"))


@given(
    values=st.lists(st.floats(-10, 10, width=32).map(lambda x: round(x, 3)), min_size=1, max_size=60, unique_by=abs),
    keep=st.sampled_from([0.1, 0.25, 1.0]),
    tightness=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_projection_of_the_page_keeps_the_largest_and_is_idempotent(values, keep, tightness):
    page: dict = {}
    exec(blocks("A constraint", "python")[0], page)
    constraint, weight = page["TopWeights"]("*", warmup=0.0, keep=keep), torch.tensor(values)[None]
    projected = constraint.projected(weight, tightness)
    count = max(1, round((1 - tightness * (1 - keep)) * len(values)))
    largest = sorted(values, key=abs, reverse=True)[:count]
    assert sorted(projected[projected != 0].tolist()) == pytest.approx(sorted(v for v in largest if v))
    assert torch.equal(constraint.projected(projected, tightness), projected)


def test_the_task_of_the_page_trains_resumes_and_combines(tti):
    arguments = [*add(tti.folder, "A task", "task"), "regularizer=[l1,orthogonality]"]
    straight, resumed = trained_twice(tti, *arguments)
    assert rows(resumed)[-1] == rows(straight)[-1]
    entries = rows(straight)
    assert {"train/l1_weighted", "train/orthogonality_to_ce_grad_ratio"} <= entries[0].keys()
    assert "train/perplexity" not in entries[0]  # that of a language model
    assert 0 < summary(straight)["metrics"]["val/loss"] < entries[0]["train/ce"]
    assert Run(straight).config.task["_target_"] == "restoring.Restoring"
