"""`python -m tti.export` on runs of the real command line, and evaluation of the exports as external models."""

import json
import shutil
from functools import partial

import pytest
import torch
from small import CORPUS, SMALL
from transformers import AutoTokenizer, GPTNeoConfig, GPTNeoForCausalLM

from tti.data.grammar import StoryGrammar
from tti.evaluation_folder import Evaluation

SAE = [
    f"evaluation.sae.{each}"
    for each in ("tokens=600", "measured_tokens=300", "kind=[topk]", "k=[8]", "fit.batch=64", "fit.passes=1")
]
PLAIN = {"README.md", "config.json", "export.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


VALIDATION = "data.corpus.validation=valid.txt"
TEXT = ["data=tinystories", "data.corpus.train=train.txt", VALIDATION, "data.corpus.tokenizer=bpe:300"]


@pytest.fixture(scope="module")
def trained(commands_in, tmp_path_factory):
    """A folder with two finished runs, `runs/dense` on text files and `runs/topk` on the grammar's stories."""
    folder = tmp_path_factory.mktemp("exported")
    grammar = StoryGrammar()
    for name, seed, count in (("train", 0, 100), ("valid", 1, 20)):
        stories = [grammar.tokenizer().decode(grammar.story(i, seed).tokens.tolist()) for i in range(count)]
        (folder / f"{name}.txt").write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories))
    train = commands_in(folder)
    train(*(override for override in SMALL if override not in CORPUS), *TEXT, "run_dir=runs/dense").ok()
    train(*SMALL, "run_dir=runs/topk", "model/mlp=topk").ok()
    return folder


@pytest.fixture
def here(commands_in, trained, tmp_path):
    """Commands in a copy of the folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return commands_in(tmp_path)


@pytest.fixture
def export(here):
    return partial(here, module="tti.export")


def test_a_dense_run_is_plain_gpt2_and_evaluates_as_the_run_does(here, export, tmp_path):
    output = export("run=runs/dense", "to=exports/dense", "licence=mit").ok().output
    assert "logits equal to" in output
    folder = tmp_path / "exports/dense"
    assert {path.name for path in folder.iterdir()} == PLAIN
    about = json.loads((folder / "export.json").read_text())
    assert about["step"] == 20
    assert about["compared"]["largest_logit_difference"]["float64"] < 1e-10
    assert about["sites"]["blocks.1.mlp.post"]["hook"] == "blocks.1.mlp.out.hook_in"
    card = (folder / "README.md").read_text()
    assert "license: mit" in card
    assert "not known to tti" in card
    loss = json.loads((tmp_path / "runs/dense/summary.json").read_text())["metrics"]["val/loss"]
    assert f"| `val/loss` | {loss:.5g} |" in card
    elsewhere = ["hf=exports/dense", "data=tinystories", VALIDATION, "parts=[performance,effects]", "to=ev"]
    here(*elsewhere, module="tti.evaluate").ok()
    evaluation = Evaluation(tmp_path / "ev")
    assert evaluation.part("performance").of["step"] is None
    assert evaluation.metrics()["performance/loss"] == pytest.approx(loss, rel=1e-5)
    assert Evaluation(tmp_path / "ev", subject="random_init").metrics()["performance/loss"] > loss


def test_a_topk_run_carries_its_mlp_and_is_evaluated_from_its_run(here, export, tmp_path):
    export("run=runs/topk", "to=exports/topk", "checkpoint=best").ok()
    assert (tmp_path / "exports/topk/tti_models_mlp.py").exists()
    card = (tmp_path / "exports/topk/README.md").read_text()
    assert "trust_remote_code=True" in card
    assert "written by tti's own grammar" in card
    message = here("hf=exports/topk", "data=grammar", module="tti.evaluate").failed()
    assert "is evaluated from its run: run=FOLDER" in message


def test_an_export_that_is_there_is_replaced_only_if_told(export, tmp_path):
    export("run=runs/dense", "to=out").ok()
    assert "overwrite=true replaces it" in export("run=runs/topk", "to=out").failed()
    export("run=runs/topk", "to=out", "overwrite=true").ok()
    assert (tmp_path / "out/modeling_tti.py").exists()
    assert "is not an export" in export("run=runs/topk", "to=runs", "overwrite=true").failed()
    assert (tmp_path / "runs/dense/summary.json").exists()


def test_an_unfinished_run_is_exported_only_if_told(export, tmp_path):
    (tmp_path / "runs/dense/summary.json").unlink()
    message = export("run=runs/dense", "to=out").failed()
    assert "runs/dense is unfinished: start it again" in message
    assert "of step 20, with unfinished=true" in message
    export("run=runs/dense", "to=out", "unfinished=true").ok()
    assert "this is not its final state" in (tmp_path / "out/README.md").read_text()


def test_what_is_not_there_is_said(export):
    assert "nope holds no run" in export("run=nope", "to=out").failed()
    message = export("run=runs/dense", "to=out", "checkpoint=nope").failed()
    assert "has no checkpoint 'nope'; it has: best, last" in message


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("import tti.models.gpt as g; g.GPT.logits = lambda self, hidden: 1.01 * hidden @ self.embed.weight.T",
         "the exported model differs from the run: its logits differ by up to"),
        ("import tti.huggingface.folder as f; f.save_file = lambda *a, **k: 1 / 0", "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_nothing_is_left_of_an_export_that_fails(export, tmp_path, patch, said):
    done = export("run=runs/dense", "to=exports/dense", patch=patch)
    assert done.code == 1
    assert said in done.output
    assert not list((tmp_path / "exports").iterdir())


def test_a_gpt_neo_is_evaluated_by_all_parts_that_need_no_weights(here, export, tmp_path):
    export("run=runs/dense", "to=neo").ok()  # for its tokenizer
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 24}
    config = GPTNeoConfig(**sizes, window_size=8, attention_types=[[["global", "local"], 1]])
    theirs = GPTNeoForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "neo")
    parts = "parts=[performance,geometry,causality,effects,gaming,sae]"
    small = ["evaluation.causality.neurons=2", "evaluation.causality.tokens=100", *SAE]
    given = ["data=tinystories", "data.corpus.train=train.txt", VALIDATION, parts, "device=cpu"]
    done = here("hf=neo", *given, *small, "calibration_tokens=800", module="tti.evaluate").ok()
    assert "effects: left out, the network does not expose the weights of its neurons" in done.output
    assert "gaming: left out" in done.output
    evaluation = Evaluation(tmp_path / "neo")
    assert evaluation.parts() == ("causality", "geometry", "performance", "sae")
    assert "performance/loss" in Evaluation(tmp_path / "neo", subject="random_init").metrics()
    loss = evaluation.metrics()["performance/loss"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "neo").backend_tokenizer
    end = tokenizer.token_to_id("<|endoftext|>")
    nats = tokens = 0
    for story in (tmp_path / "valid.txt").read_text().split("<|endoftext|>")[:-1]:
        ids = torch.tensor([*tokenizer.encode(story.strip()).ids, end])
        with torch.no_grad():
            logits = theirs(ids[None, :-1]).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        tokens += len(ids) - 1
    assert loss == pytest.approx(nats / tokens, rel=1e-5)


def test_a_model_from_elsewhere_needs_data(here):
    assert "data=tinystories" in here("hf=runs/dense", module="tti.evaluate").failed()
    message = here("hf=runs/dense", "data=grammar", module="tti.evaluate").failed()
    assert "no Hugging Face model in runs/dense" in message
    assert "set either run=FOLDER" in here(module="tti.evaluate").failed()
