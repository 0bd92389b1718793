"""Conversion between our network and transformers' GPT-2, by a table of names read in both directions."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from tti.models.gpt import GPT, Block
from tti.models.mlp import MLP, DenseMLP, FeedForward, gelu_tanh

WHOLE = (("embed", "wte"), ("pos_embed", "wpe"), ("ln_final", "ln_f"))
BLOCK = (("ln1", "ln_1"), ("attn.qkv", "attn.c_attn"), ("attn.out", "attn.c_proj"), ("ln2", "ln_2"))
READS_AND_WRITES = (("inp", "c_fc"), ("out", "c_proj"))  # matrices of an MLP
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.nn.functional.gelu,
    "relu": torch.nn.functional.relu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
}
# Options of GPT2Config, besides the sizes, for which our network has a single behaviour. Other values are wrapped.
FIXED = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def is_gpt2(net: GPT) -> bool:
    """Whether transformers' GPT-2 can compute this network: dense MLPs with an activation function that it knows."""
    return all(type(mlp) is DenseMLP and mlp.activation in ACTIVATIONS.values() for mlp in mlps(net))


def sizes(net: GPT) -> dict[str, Any]:
    """The arguments of a ``GPT2Config`` that follow from the network; for its MLPs only the width."""
    first = next(block for block in net.modules() if isinstance(block, Block))
    return {
        "vocab_size": net.vocab_size,
        "n_positions": net.context,
        "n_embd": net.embed.embedding_dim,
        "n_layer": len(net.blocks),
        "n_head": first.attn.n_heads,
        "n_inner": first.mlp.width if is_named(first.mlp) else None,
        "resid_pdrop": first.dropout.p,
        "embd_pdrop": net.dropout.p,
        "attn_pdrop": first.attn.dropout,
        **FIXED,
    }


def activation_name(net: GPT) -> str:
    """The activation function of a network that :func:`is_gpt2`, as ``GPT2Config`` names it."""
    mlp = next(mlps(net))
    assert is_named(mlp)
    return next(name for name, function in ACTIVATIONS.items() if function == mlp.activation)


def weights(net: GPT, plain: bool) -> dict[str, Tensor]:
    """The weights under transformers' names, with zero biases where ours has none; the head is the embedding.

    Args:
        net: our network.
        plain: whether the MLPs are GPT-2's, with ``[in, out]`` matrices; otherwise they are those of ``modeling_tti``,
            which are ours except for the names ``c_fc`` and ``c_proj`` of those that have these two.
    """
    state: dict[str, Tensor] = {}
    for ours, theirs in names(len(net.blocks)):
        state |= _named(theirs, net.get_submodule(ours))
    for i, mlp in enumerate(mlps(net)):
        state |= {f"transformer.h.{i}.mlp.{name}": value for name, value in _of_mlp(mlp, plain).items()}
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def from_gpt2(theirs: Any) -> GPT:
    """Our network from a ``GPT2LMHeadModel`` that it can represent, in evaluation mode, without dropout."""
    assert can_be_ours(theirs)
    config = theirs.config
    net = initialised(config)
    with torch.no_grad():
        for name, module in names(config.n_layer, ("mlp.inp", "mlp.c_fc"), ("mlp.out", "mlp.c_proj")):
            own, other = net.get_submodule(name), theirs.get_submodule(module)
            for parameter, value in own.named_parameters():
                given = other.get_parameter(parameter)
                value.copy_(given.T if isinstance(own, nn.Linear) and given.ndim == 2 else given)
    return net.eval()


def initialised(config: Any) -> GPT:
    """Our network with the shape of a ``GPT2Config``, randomly initialized from torch's random state."""
    d_ff = config.n_inner or 4 * config.n_embd
    mlp = partial(DenseMLP, d_ff=d_ff, activation=ACTIVATIONS[config.activation_function], bias=True)
    return GPT(
        vocab_size=config.vocab_size,
        context=config.n_positions,
        n_layers=config.n_layer,
        d_model=config.n_embd,
        n_heads=config.n_head,
        mlp=mlp,
        dropout=0.0,
        attention_dropout=0.0,
        bias=True,
    )


def can_be_ours(theirs: Any) -> bool:
    """Whether our network can represent a transformers model: a GPT-2 with supported options and a tied head."""
    config = theirs.config
    return (
        config.model_type == "gpt2"
        and config.activation_function in ACTIVATIONS
        and all(getattr(config, name) == only for name, only in FIXED.items())
        and is_tied(theirs)
    )


def is_tied(theirs: Any) -> bool:
    """Whether the head equals the embedding, whatever the configuration says."""
    return torch.equal(theirs.get_output_embeddings().weight, theirs.get_input_embeddings().weight)


def names(layers: int, *of_mlp: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every module with weights outside the MLPs (and of ``of_mlp``, within a block)."""
    yield from ((ours, f"transformer.{theirs}") for ours, theirs in WHOLE)
    for i in range(layers):
        yield from ((f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}") for ours, theirs in (*BLOCK, *of_mlp))


def mlps(net: GPT) -> Iterator[FeedForward]:
    """The MLPs, layer by layer.

    Raises:
        ValueError: an MLP cannot be exported.
    """
    for block in net.blocks:
        assert isinstance(block, Block)
        if needed := block.mlp.needs:
            raise ValueError(
                f"an export cannot have MLPs whose output for a token depends on {needed}: transformers' GPT-2 passes "
                "them single tokens and nothing else. Routing by token (model/mlp/router=token) can be exported"
            )
        yield block.mlp


def is_named(mlp: FeedForward) -> TypeGuard[MLP]:
    """Whether it has an input and an output matrix, for which GPT-2 has names."""
    return isinstance(mlp, MLP)


def _of_mlp(mlp: FeedForward, plain: bool) -> dict[str, Tensor]:
    state: dict[str, Tensor] = mlp.state_dict()
    if not is_named(mlp):
        return state
    state = {name: value for name, value in state.items() if name.split(".")[0] not in ("inp", "out")}
    for ours, theirs in READS_AND_WRITES:
        linear = mlp.get_submodule(ours)
        assert isinstance(linear, nn.Linear)
        state |= _named(theirs, linear)
        if not plain:
            state[f"{theirs}.weight"] = linear.weight
    return state


def _named(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Weight and bias of an embedding, a LayerNorm or a linear map, whose matrix is transposed as in ``Conv1D``."""
    assert isinstance(module.weight, Tensor)
    if isinstance(module, nn.Linear):
        bias = torch.zeros(module.out_features) if module.bias is None else module.bias
        return {f"{name}.weight": module.weight.T, f"{name}.bias": bias}
    return {f"{name}.{parameter}": value for parameter, value in module.named_parameters()}
