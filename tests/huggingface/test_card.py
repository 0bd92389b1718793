"""A model card shows names as text, not as markup."""

from omegaconf import OmegaConf

from tti.huggingface.card import card
from tti.runs import Run

ABOUT = {
    "status": "finished", "checkpoint": "last", "step": 3, "remote_code": False, "licence": None, "data_licence": None,
    "mlp": "of class DenseMLP", "parameters": 1200, "weights_per_token": 1000,
    "compared": {"stories": 1, "tokens": 2, "largest_logit_difference": {"float32": 0.0, "float64": 0.0}},
}  # fmt: skip


def written(tmp_path, train, run_dir="runs/a"):
    corpus = {"_target_": "tti.data.corpora.TextCorpus", "train": train, "validation": "valid.txt"}
    config = {"run_dir": run_dir, "model": {"mlp": {"_target_": "tti.models.mlp.DenseMLP"}}, "data": {"corpus": corpus}}
    OmegaConf.save(OmegaConf.create(config), tmp_path / "config.yaml")
    OmegaConf.save(OmegaConf.create([f"run_dir={run_dir}"]), tmp_path / "overrides.yaml")
    return card(Run(tmp_path), ABOUT, "exports/a_b")


def test_every_file_of_a_corpus_is_named(tmp_path):
    assert "| data | `a.txt` `b.txt` `valid.txt` |" in written(tmp_path, ["/here/a.txt", "/here/b.txt"])


def test_it_says_what_the_mlps_are(tmp_path, monkeypatch):
    monkeypatch.setitem(ABOUT, "remote_code", True)
    monkeypatch.setitem(ABOUT, "mlp", "mixtures of experts of 6 neurons: each token visits 2 of 5")
    text = written(tmp_path, "a.txt")
    assert "Its MLPs are not GPT-2's but mixtures of experts of 6 neurons: each token visits 2 of 5." in text
    assert "| parameters | 1,200, 1,000 weights multiply each token |" in text


def test_names_are_no_markup(tmp_path):
    name = "runs/`<script>alert(1)</script>|x"
    text = written(tmp_path, "a.txt", name)
    assert f"run ``{name}``," in text
    assert "<script>" not in text.replace(f"``{name}``", "").replace("``run_dir=" + name.replace("|", "\\|") + "``", "")
