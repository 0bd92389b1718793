"""The model card of an export: what it is, how to open it, what it was trained on, its figures."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from tti.configuration import without_folders
from tti.evaluation_folder import Evaluation
from tti.markdown import code, escaped, table
from tti.runs import Run

DATA_LICENCES = {
    "roneneldan/TinyStories": "CDLA-Sharing-1.0",
    "tti.data.corpora.GrammarCorpus": "none: written by tti's own grammar",
    "tti.data.tasks.GrammarTasks": "none: written by tti's own grammar",
}
UNKNOWN = "not known to tti: find it out before you publish this"


def card(run: Run, about: Mapping[str, Any], address: str) -> str:
    """``README.md`` of an export.

    Args:
        run: the exported run.
        about: ``export.json``.
        address: the argument for ``from_pretrained``: a folder, or a repository on the Hub.
    """
    sections = [_front_matter(run, about), f"# {escaped(Path(address).name)}", _introduction(run, about)]
    sections += [_opening(address, about)]
    sections += ["## Training", _training(run, about), "## Figures", _figures(run, about["step"])]
    return "\n\n".join([*sections, "## Is it the same model?", _compared(**about["compared"])]) + "\n"


def _front_matter(run: Run, about: Mapping[str, Any]) -> str:
    datasets = [source for source in sources(run) if source in DATA_LICENCES and "/" in source]
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": "en",
        "tags": ["gpt2", "interpretability", "tti"],
        **({"license": about["licence"]} if about["licence"] else {}),
        **({"datasets": datasets} if datasets else {}),
    }
    return f"---\n{OmegaConf.to_yaml(OmegaConf.create(fields))}---"


def _introduction(run: Run, about: Mapping[str, Any]) -> str:
    ended = "" if about["status"] == "finished" else f" (the run is {about['status']}: this is not its final state)"
    return (
        "A GPT-2 style language model trained with tti (training-time interpretability): run "
        f"{code(run.config.run_dir)}, checkpoint {code(about['checkpoint'])} at step {about['step']:,}{ended}."
    )


def _opening(address: str, about: Mapping[str, Any]) -> str:
    remote = ", trust_remote_code=True" if about["remote_code"] else ""
    carried = (
        f"Its MLPs are not GPT-2's but {about['mlp']}. The files `*.py` are their source, which "
        "`trust_remote_code=True` runs; they need only torch and transformers.\n"
    )
    return f"""\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{address}"{remote})
tokenizer = AutoTokenizer.from_pretrained("{address}")
```

Stories have no beginning-of-sequence token: pass prompts as they are, without `<|endoftext|>` before them.
{carried if about["remote_code"] else ""}\
`export.json` says where to find each of its sites in transformers, nnsight and TransformerLens."""


def _training(run: Run, about: Mapping[str, Any]) -> str:
    overrides = [without_folders(override) for override in run.overrides]
    rows = [
        ["overrides of the defaults", _spans(overrides) or "none"],
        ["MLP", code(run.config.model.mlp._target_)],
        ["parameters", f"{about['parameters']:,}, {about['weights_per_token']:,} weights multiply each token"],
        ["data", _spans(sources(run))],
        ["licence of the data", about["data_licence"] or DATA_LICENCES.get(sources(run)[0], UNKNOWN)],
    ]
    return table(["", ""], rows)


def sources(run: Run) -> list[str]:
    """Sources of the training and validation splits: names on the Hub, file names, or the corpus's class."""
    corpus = run.config.data.corpus
    named = [source for split in ("train", "validation") for source in _listed(corpus[split])]
    return list(dict.fromkeys(_name(source) for source in named)) or [corpus._target_]


def _listed(given: Any) -> list[str]:
    """One source, several, or none if a split is a number of stories."""
    return [given] if isinstance(given, str) else list(given) if isinstance(given, ListConfig) else []


def _name(source: str) -> str:
    """A file's name without its folder, or a name on the Hub without its split."""
    return Path(source).name if Path(source).is_absolute() else source.partition("@")[0]


def _figures(run: Run, step: int) -> str:
    """The last validation at or before the checkpoint, and its evaluation, without single layers."""
    logged = [entry for entry in run.metrics() if entry["step"] <= step and "val/loss" in entry]
    metrics = {key: value for key, value in (logged[-1] if logged else {}).items() if key.startswith("val/")}
    metrics |= _evaluated(run, step)
    rows = [[code(key), f"{value:.5g}"] for key, value in metrics.items() if "/layer_" not in key]
    return table(["metric", "value"], rows) if rows else "None was logged before this checkpoint."


def _evaluated(run: Run, step: int) -> dict[str, float]:
    evaluation = Evaluation(run.folder)
    parts = {name: evaluation.part(name) for name in evaluation.parts()}
    return {
        f"evaluation/{name}/{key}": value
        for name, part in parts.items()
        if part.of["step"] == step
        for key, value in part.metrics.items()
    }


def _compared(stories: int, tokens: int, largest_logit_difference: Mapping[str, float]) -> str:
    single, double = (f"{largest_logit_difference[dtype]:.1e}" for dtype in ("float32", "float64"))
    return (
        f"Over {tokens:,} tokens of {stories} validation stories its logits differ from the run's by at most {single} "
        f"in single and {double} in double precision."
    )


def _spans(words: Iterable[str]) -> str:
    return " ".join(map(code, words))
