"""A model that was not trained here, from a Hugging Face folder, as the evaluation takes a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer

from tti.data import tokenizers
from tti.huggingface import gpt2
from tti.models.gpt import GPT

SEED = 0


@dataclass(frozen=True)
class Foreign:
    """A GPT-2 of transformers.

    Args:
        source: a folder, or a name on the Hub.
        folder: where its ``evaluation/`` is written.

    Raises:
        ValueError: there is no such model, it is of another architecture, or its tokenizer does not fit.
    """

    source: str
    folder: Path

    def __post_init__(self) -> None:
        gpt2.require_supported(self._config)

    @property
    def summary(self) -> dict[str, Any]:
        """How long it was trained is not known."""
        return {"steps": None}

    @property
    def config(self) -> DictConfig:
        """What a configuration of data refers to; the data themselves are the command's."""
        return OmegaConf.create({"model": {"context": self._config.n_positions}, "seed": SEED, "data": {}})

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its own."""
        tokenizer = tokenizers.load(self.source)
        needed, rows = tokenizers.vocabulary_size(tokenizer), self._config.vocab_size
        if needed > rows:
            raise ValueError(
                f"the tokenizer of {self.source} has ids up to {needed - 1:,}, its embedding {rows:,} rows"
            )
        return tokenizer

    def model(self, checkpoint: str) -> GPT:
        """The network, in evaluation mode on the CPU, in single precision."""
        from transformers import GPT2LMHeadModel

        return gpt2.from_gpt2(GPT2LMHeadModel.from_pretrained(self.source, dtype=torch.float32))

    def untrained(self) -> GPT:
        """A network of this shape before training."""
        torch.manual_seed(SEED)
        return gpt2.initialised(self._config)

    def regularizers(self, sites: Mapping[str, int], checkpoint: str) -> torch.nn.ModuleDict:
        """None that are known of."""
        return torch.nn.ModuleDict()

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig  # seconds of imports

        try:
            return AutoConfig.from_pretrained(self.source)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"no Hugging Face model in {self.source} ({reason}). hf= takes a folder with config.json, "
                "model.safetensors and tokenizer.json, or a name on the Hub; a run of tti is evaluated with run=FOLDER."
            ) from error
