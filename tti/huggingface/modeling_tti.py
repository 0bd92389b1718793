"""GPT-2 with the MLPs of a tti run; transformers runs this file with ``trust_remote_code=True``.

An export carries a copy of it, in which ``RunMLP`` is the run's own class (``tti.huggingface.source``). Everything
except the MLPs is transformers' GPT-2, so that caching, generation and hooks work as usual.
"""

from pydoc import locate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from tti.models.mlp import DenseMLP as RunMLP


class TTIMLP(RunMLP):
    """The run's MLP under GPT-2's names: ``c_fc`` reads, ``c_proj`` writes, and ``act`` is the input of ``c_proj``.

    Tools see the inputs and outputs of modules, so every site inside the MLP passes through a module, ``sites.<site>``
    (``sites.dense_post`` for a site ``dense.post``).

    Args:
        config: its ``tti`` holds the constructor's arguments (``mlp``) and the names of the sites (``sites``).
    """

    def __init__(self, config: GPT2Config) -> None:
        arguments = {name: _argument(value) for name, value in config.tti["mlp"].items()}
        super().__init__(config.n_embd, **arguments)
        self.c_fc, self.c_proj = (_with_bias(self._modules.pop(name)) for name in ("inp", "out"))
        self.act = nn.Identity()
        self.sites = nn.ModuleDict({_name(site): nn.Identity() for site in config.tti["sites"]})
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    @property
    def inp(self) -> nn.Module:  # type: ignore[override]
        """``c_fc``, or its replacement by a tool."""
        return self.c_fc

    @property
    def out(self) -> nn.Module:  # type: ignore[override]
        """``c_proj``, or its replacement by a tool."""
        return self.c_proj

    def forward(self, hidden_states: Tensor) -> Tensor:  # type: ignore[override]
        return self.resid_dropout(super().forward(hidden_states, self._tap))

    def _tap(self, site: str, activation: Tensor) -> Tensor:
        activation = self.sites[_name(site)](activation)
        return self.act(activation) if site == "post" else activation


class TTIForCausalLM(GPT2LMHeadModel):
    """``GPT2LMHeadModel`` with :class:`TTIMLP` in every block."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        for block in self.transformer.h:
            block.mlp = TTIMLP(config)
        self.post_init()


def _name(site: str) -> str:
    return site.replace(".", "_")


def _argument(value: Any) -> Any:
    """A constructor's argument from ``config.json``: a function given by its path, or any other value."""
    return locate(value["path"]) if isinstance(value, dict) else value


def _with_bias(linear: nn.Module | None) -> nn.Linear:
    """The linear map with a bias, 0 if it has none, as GPT-2 and tools that fold LayerNorms into weights expect."""
    assert isinstance(linear, nn.Linear)
    if linear.bias is None:
        linear.bias = nn.Parameter(torch.zeros(linear.out_features))
    return linear
