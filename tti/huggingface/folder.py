"""The files of an export, and the difference between transformers' logits and the run's."""

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from jaxtyping import Int
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from tti.data import tokenizers
from tti.data.sources import END_OF_TEXT
from tti.huggingface import gpt2
from tti.huggingface.source import carried
from tti.models.gpt import GPT
from tti.models.network import Network
from tti.models.stories import Separate

MODEL = "modeling_tti.TTIForCausalLM"
RUN_MLP = "RunMLP"  # as modeling_tti calls the run's class


def write(folder: Path, net: GPT, mlp: DictConfig, tokenizer: Tokenizer) -> None:
    """Write configuration, weights and tokenizer, and the source of an MLP that GPT-2 lacks.

    Args:
        folder: an existing folder.
        net: the network.
        mlp: the configuration of its MLPs, ``model.mlp`` of its run.
        tokenizer: its tokenizer.

    Raises:
        ValueError: the MLP cannot be exported: it has no source, or takes a function that is not torch's.
    """
    from transformers import GPT2Config  # takes seconds

    plain, end = gpt2.is_gpt2(net), tokenizers.end_of_text(tokenizer)
    about = {**gpt2.sizes(net), "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "dtype": "float32"}
    if plain:
        about |= {"architectures": ["GPT2LMHeadModel"], "activation_function": gpt2.activation_name(net)}
    else:
        about |= _with_code(folder, net, mlp)
    GPT2Config(**about).save_pretrained(folder)
    save_file(gpt2.weights(net, plain), folder / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(folder, tokenizer, net.context)


def open_model(folder: Path) -> Any:
    """Load an export with transformers, in evaluation mode.

    Raises:
        ValueError: weights are missing or unexpected, or the MLP's source needs something that an export cannot carry.
    """
    from transformers import AutoModelForCausalLM

    try:
        opened: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    except ImportError as error:
        raise ValueError(
            f"the source of the MLP cannot be used where tti is not installed ({error}). Keep its class in a file of "
            "its own, which imports names (`from tti.models.mlp import DenseMLP`), not modules."
        ) from error
    model, info = opened
    wrong = {name: sorted(info[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[name]}
    if wrong:
        raise ValueError(f"transformers does not find what it needs in the export: {wrong}")
    return model.eval()


@torch.no_grad()
def largest_difference(
    net: Network, theirs: nn.Module, stories: Sequence[Int[Tensor, "token"]], dtype: torch.dtype
) -> float:
    """The largest absolute difference between two models' logits over all tokens of some stories."""
    net, theirs = deepcopy(net).to(dtype), deepcopy(theirs).to(dtype)
    differences = [
        net.logits(net(story, Separate.of([len(story)]))) - theirs(input_ids=story[None]).logits[0] for story in stories
    ]
    return float(torch.cat(differences).abs().max())


def _with_code(folder: Path, net: GPT, mlp: DictConfig) -> dict[str, Any]:
    from tti.huggingface import modeling_tti  # imports transformers

    first = next(gpt2.mlps(net))
    classes: dict[str, type] = {RUN_MLP: type(first)}
    arguments = _arguments(mlp, classes)
    for name, text in carried(modeling_tti, RUN_MLP, classes).items():
        (folder / name).write_text(text)
    scope, named = "blocks.0.mlp.", gpt2.is_named(first)
    return {
        # TransformerLens goes by the second, and needs GPT-2's names.
        "architectures": [MODEL.partition(".")[2], *["GPT2LMHeadModel"] * named],
        "auto_map": {"AutoModelForCausalLM": MODEL},
        "tti": {
            "form": "TTIMLP" if named else "TTIFeedForward",
            "mlp": arguments,
            "sites": [site.removeprefix(scope) for site in net.sites if site.startswith(scope)],
        },
    }


def _arguments(given: DictConfig, classes: dict[str, type]) -> dict[str, Any]:
    """The constructor's arguments, in the form that ``modeling_tti`` reads; parts add their classes to ``classes``."""
    return {str(name): _argument(str(name), given[name], classes) for name in given if not str(name).startswith("_")}


def _argument(name: str, value: Any, classes: dict[str, type]) -> Any:
    if not isinstance(value, DictConfig):
        return value
    if "path" in value and str(value.path).startswith("torch."):
        return {"path": value.path}
    if value.get("_partial_") and "_target_" in value:
        called = f"RunPart{len(classes)}"
        classes[called] = get_class(value._target_)
        return {"class": called, "arguments": _arguments(value, classes)}
    shown = json.dumps(OmegaConf.to_container(value, resolve=True))
    raise ValueError(
        f"the MLP's {name} is {shown}: an export can only name functions of torch and parts that the MLP makes itself "
        "(_partial_: true), since it is opened where tti is not installed. Put the function into the MLP's own class."
    )


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, context: int) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=context, **special)
    wrapped.save_pretrained(folder)
    there = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    if there.get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"transformers reads another vocabulary from {folder} than was written")
