"""Networks with non-trivial weights, as exports, with network access disabled."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from tti.data.grammar import StoryGrammar
from tti.huggingface import folder as export_folder
from tti.models.gpt import GPT


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every network connection fail."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return StoryGrammar().tokenizer()


@pytest.fixture(scope="session")
def lively_net(make_net: Callable[..., GPT], tokenizer: Tokenizer) -> Callable[..., GPT]:
    """``lively_net("model/mlp=topk")``: a network in which no parameter is constant at its initial value."""

    def made(*overrides: str) -> GPT:
        net = make_net(*overrides, vocab_size=tokenizer.get_vocab_size(), context=64)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return net

    return made


@pytest.fixture(scope="session")
def exported(
    lively_net: Callable[..., GPT], compose: Callable, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[GPT, Path]]:
    """``exported("topk")``: a network with that MLP, and the folder of its export."""
    made: dict[str, tuple[GPT, Path]] = {}

    def once(mlp: str) -> tuple[GPT, Path]:
        if mlp not in made:
            net, folder = lively_net(f"model/mlp={mlp}"), tmp_path_factory.mktemp("exports") / mlp
            folder.mkdir()
            # The fixture `lively_net` sets d_model=16, on which the MLP's argument d_ff depends.
            export_folder.write(
                folder, net, compose("model=tiny", f"model/mlp={mlp}", "model.d_model=16").model.mlp, tokenizer
            )
            made[mlp] = net, folder
        return made[mlp]

    return once


@pytest.fixture
def story() -> torch.Tensor:
    """Token ids of a story."""
    return torch.randint(30, (20,), generator=torch.Generator().manual_seed(2))
