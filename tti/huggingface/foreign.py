"""An external model from a Hugging Face folder, with the interface of a run for evaluation."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from torch import nn

from tti.data import tokenizers
from tti.huggingface import gpt2, loading
from tti.huggingface.wrapped import Wrapped
from tti.models.network import Network, Site

SEED = 0


@dataclass(frozen=True)
class Foreign:
    """A transformers decoder: a GPT-2 with options that ours has becomes our network, any other is wrapped.

    Args:
        source: a folder, or a name on the Hub.
        folder: folder in which ``evaluation/`` is written.

    Raises:
        ValueError: there is no such model, it is damaged, or its architecture is not supported.
    """

    source: str
    folder: Path

    def __post_init__(self) -> None:
        _ = self._config

    @property
    def summary(self) -> dict[str, Any]:
        """The length of training, which is unknown."""
        return {"steps": None}

    def data(self, given: DictConfig) -> Any:
        """The data module of the command's configuration, which refers to the model's context and a seed."""
        around = {"model": {"context": self._config.max_position_embeddings}, "seed": SEED}
        return instantiate(OmegaConf.merge(around, {"data": given}).data)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer.

        Raises:
            ValueError: it does not fit the model.
        """
        tokenizer = tokenizers.load(self.source)
        highest, rows = max(tokenizer.get_vocab().values()), self._config.vocab_size
        if highest >= rows:
            raise ValueError(f"the tokenizer of {self.source} has ids up to {highest:,}, its embedding {rows:,} rows")
        return tokenizer

    def model(self, checkpoint: str) -> Network:
        """The network, in evaluation mode on the CPU, in single precision.

        Raises:
            ValueError: the weights cannot be read, or do not match the architecture.
        """
        return gpt2.from_gpt2(self._theirs) if self._is_ours else Wrapped(self._theirs)

    def untrained(self) -> Network:
        """A randomly initialized network of the same shape."""
        torch.manual_seed(SEED)
        if self._is_ours:
            return gpt2.initialised(self._config)
        from transformers import AutoModelForCausalLM

        config = deepcopy(self._config)
        config.tie_word_embeddings = gpt2.is_tied(self._theirs)
        return Wrapped(AutoModelForCausalLM.from_config(config, dtype=torch.float32))

    def regularizers(self, sites: Mapping[str, Site], checkpoint: str) -> nn.ModuleDict:
        """Empty: none are known."""
        return nn.ModuleDict()

    @cached_property
    def _config(self) -> Any:
        return loading.configuration(self.source)

    @cached_property
    def _theirs(self) -> Any:
        return loading.language_model(self.source)

    @property
    def _is_ours(self) -> bool:
        return gpt2.can_be_ours(self._theirs)


def named(config: DictConfig) -> tuple[Foreign, DictConfig]:
    """The model that ``hf`` names, and the command's configuration with its tokenizer and its only checkpoint.

    Raises:
        ValueError: there is no such model, it is not supported, or the data or the output folder are not given.
    """
    if "corpus" not in config.data:
        raise ValueError(
            "hf= needs data to evaluate the model on, which its own tokenizer encodes: "
            "data=tinystories, with data.corpus.validation=FILE for your own files"
        )
    if config.to is None and not Path(config.hf).is_dir():
        raise ValueError(f"{config.hf} is not a folder here: set to=FOLDER to evaluate a model from the Hub")
    own: dict[str, Any] = {"checkpoint": "model"}
    if "tokenizer" in config.data.corpus:  # otherwise the corpus has its own tokenizer, which is compared
        own["data"] = {"corpus": {"tokenizer": config.hf}}
    return Foreign(str(config.hf), Path(config.to or config.hf)), DictConfig(OmegaConf.merge(config, own))
