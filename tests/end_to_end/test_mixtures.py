"""Mixtures of experts on stories: in one report with experiments 1, 2 and 5, evaluated and exported as any MLP."""

import json

import pytest
from small import CORPUS

from tti.evaluation_folder import Evaluation

TINY = [
    "model=tiny", "data=grammar", *CORPUS, "model.d_model=32", "data.stories_per_step=4", "trainer.max_steps=2",
    "trainer.val_check_interval=1", "seed=42", "name=tiny",
]  # fmt: skip
ADDED = '+hydra.sweeper.variants.moe=["model/mlp=moe","regularizer=[load_balance,router_z]"]'
SMALL_PARTS = [
    "parts=[performance,geometry,utilisation,selectivity,contexts,effects,ground_truth,causality,modularity,answers]",
    "evaluation.causality.neurons=2", "evaluation.causality.tokens=100", "evaluation.ground_truth.causal_tokens=100",
    "calibration_tokens=800", "subjects=[trained,rotation]",
]  # fmt: skip
pytestmark = pytest.mark.nightly


def test_they_join_experiments_1_2_and_5_in_one_report_and_are_exported(tti, tmp_path):
    tti("-m", "experiment=expt1", *TINY, ADDED, "variant=baseline,moe").ok()
    tti("-m", "experiment=expt2", *TINY, "variant=topk_25").ok()
    tti("-m", "experiment=expt5", *TINY, "variant=overcomplete_topk").ok()
    done = tti("run=runs/expt1-tiny", *SMALL_PARTS, module="tti.evaluate").ok()
    assert "modularity: left out, its stories have no label 'task'" in done.output
    moe = tmp_path / "runs/expt1-tiny/moe/seed-42"
    found = Evaluation(moe)
    metrics = found.metrics()
    for name in ("ground_truth/context_f1", "selectivity/selectivity_top5_weighted", "utilisation/density"):
        assert f"{name}/mlp.post/mean" in metrics
    assert found.neurons("blocks.0.mlp.post")["zero_rate"].shape == (8 * 64,)
    runs = "runs=[runs/expt1-tiny,runs/expt2-tiny,runs/expt5-tiny]"
    tti(runs, "baseline=expt1-tiny/baseline", "to=all.md", module="tti.report").ok()
    text = (tmp_path / "all.md").read_text()
    for variant in ("expt1-tiny/moe", "expt2-tiny/topk_25", "expt5-tiny/overcomplete_topk"):
        assert f"| `{variant}` | `expt1-tiny/baseline` |" in text
    index = (tmp_path / "all/browser/data/index.js").read_text()
    assert "blocks.1.mlp.experts.7.post" in index
    assert "A token that did not visit it counts as 0" in index
    tti(f"run={moe}", "to=exported", module="tti.export").ok()
    about = json.loads((tmp_path / "exported/export.json").read_text())
    assert about["compared"]["largest_logit_difference"]["float64"] < 1e-10
    assert about["sites"]["blocks.0.mlp.pre"] == {
        "hook": "", "module": "transformer.h.0.mlp.sites.pre", "side": "output"
    }  # fmt: skip
    assert "each token visits 2 of 8" in (tmp_path / "exported/README.md").read_text()


def test_they_train_on_texts(tti, tmp_path):
    text = "".join(f"Tim saw cat {number}. The cat ran.<|endoftext|>\n" for number in range(40))
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text(text)
    files = ["data.corpus.train=train.txt", "data.corpus.validation=valid.txt", "data.corpus.tokenizer=bpe:300"]
    tiny = [override for override in TINY if override not in (*CORPUS, "data=grammar")]
    tti(*tiny, "data=tinystories", *files, "model/mlp=moe", "model/mlp@model.mlp.expert=topk", "run_dir=run").ok()
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 2
