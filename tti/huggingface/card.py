"""The model card of an export: what it is, what it was trained on, its figures, how it is opened."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from tti.evaluation_folder import Evaluation
from tti.markdown import table
from tti.runs import Run

DATA_LICENCES = {
    "roneneldan/TinyStories": "CDLA-Sharing-1.0",
    "tti.data.corpora.GrammarCorpus": "none: written by tti's own grammar",
}
UNKNOWN = "not known to tti: find it out before you publish this"


def card(run: Run, about: Mapping[str, Any], name: str) -> str:
    """``README.md`` of an export.

    Args:
        run: what was exported.
        about: ``export.json``.
        name: of the folder.
    """
    difference = about["compared"]["largest_logit_difference"]
    own = any(not place["hook"] for place in about["sites"].values())
    remote = ", trust_remote_code=True" if about["remote_code"] else ""
    return f"""\
{_front_matter(run, about)}
# {name}

A GPT-2 style language model trained with tti (training-time interpretability): run
`{run.config.run_dir}`, checkpoint `{about["checkpoint"]}` at step {about["step"]:,}{_unfinished(about)}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}"{remote})
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

Stories begin without a token of their own: give prompts as they are (`prepend_bos=False` in TransformerLens and SAELens).
{_about_code(own) if about["remote_code"] else ""}
## Training

| | |
|---|---|
| what differs from the defaults | {_code(OmegaConf.to_container(OmegaConf.load(run.folder / "overrides.yaml")) or ["nothing"])} |
| MLP | `{run.config.model.mlp._target_}` |
| data | {_code(_sources(run))} |
| licence of the data | {about["data_licence"] or _data_licence(run)} |

## Figures

{_figures(run, about["step"])}

## Is it the same model?

Over {about["compared"]["tokens"]:,} tokens of {about["compared"]["stories"]} validation stories its logits differ from the run's by
at most {difference["float32"]:.1e} in single and {difference["float64"]:.1e} in double precision.
"""


def _front_matter(run: Run, about: Mapping[str, Any]) -> str:
    hub = [source.partition("@")[0] for source in _sources(run) if DATA_LICENCES.get(source.partition("@")[0])]
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": "en",
        "tags": ["gpt2", "interpretability", "tti"],
        **({"license": about["licence"]} if about["licence"] else {}),
        **({"datasets": hub[:1]} if "/" in "".join(hub[:1]) else {}),
    }
    return f"---\n{OmegaConf.to_yaml(OmegaConf.create(fields))}---\n"


def _unfinished(about: Mapping[str, Any]) -> str:
    return "" if about["status"] == "finished" else f" (the run is {about['status']}: this is not its end)"


def _about_code(own_sites: bool) -> str:
    further = " Sites that only these MLPs have are `mlp.sites.<site>`." if own_sites else ""
    return (
        "\nIts MLPs are not GPT-2's: the files `*.py` are their source, which `trust_remote_code=True` runs; they need torch "
        f"and transformers alone.{further}\n"
    )


def _sources(run: Run) -> list[str]:
    corpus = run.config.data.corpus
    return [str(corpus[split]) for split in ("train", "validation") if isinstance(corpus[split], str)] or [
        corpus._target_
    ]


def _data_licence(run: Run) -> str:
    return DATA_LICENCES.get(_sources(run)[0].partition("@")[0], UNKNOWN)


def _figures(run: Run, step: int) -> str:
    """What validation logged last at or before the checkpoint, without single layers; and the evaluation's performance."""
    logged = [
        entry for entry in run.metrics() if entry["step"] <= step and any(key.startswith("val/") for key in entry)
    ]
    entry = logged[-1] if logged else {}
    metrics = {key: value for key, value in entry.items() if key.startswith("val/") and "/layer_" not in key}
    metrics |= _evaluated(run, step)
    if not metrics:
        return "None was logged before this checkpoint."
    return table(["metric", "value"], [[f"`{key}`", f"{value:.5g}"] for key, value in metrics.items()])


def _evaluated(run: Run, step: int) -> dict[str, float]:
    evaluation = Evaluation(run.folder)
    parts = [evaluation.part(name) for name in evaluation.parts()]
    return {
        f"evaluation/{part.content['part']}/{key}": value
        for part in parts
        if part.of["step"] == step
        for key, value in part.metrics.items()
        if "/layer_" not in key
    }


def _code(words: list[Any]) -> str:
    return " ".join(f"`{word}`" for word in words)
