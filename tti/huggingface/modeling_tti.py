"""GPT-2 with the MLPs of a tti run; transformers runs this file with ``trust_remote_code=True``.

An export carries a copy of it, in which ``RunMLP`` is the run's own class (``tti.huggingface.source``). Everything
except the MLPs is transformers' GPT-2, so that caching, generation and hooks work as usual.
"""

from functools import partial
from pydoc import locate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from tti.models.mlp import DenseMLP as RunMLP


class TTIFeedForward(RunMLP):
    """The run's MLP, for tokens in any number of dimensions.

    Tools see the inputs and outputs of modules, so every site inside the MLP passes through a module, ``sites.<site>``
    (``sites.dense_post`` for a site ``dense.post``); ``act`` is another name of ``sites.post``.

    Args:
        config: its ``tti`` holds the constructor's arguments (``mlp``) and the names of the sites (``sites``).
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config.n_embd, **_arguments(config.tti["mlp"]))
        self.act = nn.Identity()
        self.sites = nn.ModuleDict({_name(site): nn.Identity() for site in config.tti["sites"]})
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states: Tensor) -> Tensor:  # type: ignore[override]
        shape = hidden_states.shape[:-1]

        def tap(site: str, activation: Tensor) -> Tensor:
            return self._tap(site, activation.unflatten(0, shape)).flatten(0, len(shape) - 1)

        written = super().forward(hidden_states.flatten(0, -2), tap)
        return self.resid_dropout(written.unflatten(0, shape))

    def _tap(self, site: str, activation: Tensor) -> Tensor:
        activation = self.sites[_name(site)](activation)
        return self.act(activation) if site == "post" else activation


class TTIMLP(TTIFeedForward):
    """One with an input and an output matrix, under GPT-2's names: ``c_fc`` reads, ``c_proj`` writes."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.c_fc, self.c_proj = (_with_bias(self._modules.pop(name)) for name in ("inp", "out"))

    @property
    def inp(self) -> nn.Module:  # type: ignore[override]
        """``c_fc``, or its replacement by a tool."""
        return self.c_fc

    @property
    def out(self) -> nn.Module:  # type: ignore[override]
        """``c_proj``, or its replacement by a tool."""
        return self.c_proj

    def forward(self, hidden_states: Tensor) -> Tensor:  # type: ignore[override]
        return self.resid_dropout(RunMLP.forward(self, hidden_states, self._tap))


class TTIForCausalLM(GPT2LMHeadModel):
    """``GPT2LMHeadModel`` with the run's MLP in every block, in the form that ``config.tti["form"]`` names."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        form = {each.__name__: each for each in (TTIFeedForward, TTIMLP)}[config.tti["form"]]
        for block in self.transformer.h:
            block.mlp = form(config)
        self.post_init()


def _name(site: str) -> str:
    return site.replace(".", "_")


def _arguments(values: dict[str, Any]) -> dict[str, Any]:
    """A constructor's arguments from ``config.json``: functions by their paths, parts by class, and plain values."""
    return {name: _argument(value) for name, value in values.items()}


def _argument(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return locate(value["path"])
    return partial(globals()[value["class"]], **_arguments(value["arguments"]))


def _with_bias(linear: nn.Module | None) -> nn.Linear:
    """The linear map with a bias, 0 if it has none, as GPT-2 and tools that fold LayerNorms into weights expect."""
    assert isinstance(linear, nn.Linear)
    if linear.bias is None:
        linear.bias = nn.Parameter(torch.zeros(linear.out_features))
    return linear
