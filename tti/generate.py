"""``python -m tti.generate run=FOLDER prompt="One day"``: a trained run continues a story."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from tti.command import command
from tti.data.tokenizers import end_of_text
from tti.models.gpt import GPT
from tti.models.stories import Separate
from tti.runs import Run
from tti.trust import packages


@torch.no_grad()
def continuation(
    net: GPT, tokens: list[int], end: int, limit: int, temperature: float, top_k: int, generator: torch.Generator
) -> Iterator[int]:
    """Sample tokens after ``tokens`` until the end of text, ``limit`` tokens, or the end of the model's context.

    Each token runs the whole story again: stories are short, and there is one attention to trust.
    """
    tokens = list(tokens)
    for _ in range(min(limit, net.context - len(tokens))):
        hidden = net(torch.tensor(tokens), Separate.of([len(tokens)]))
        token = _draw(net.logits(hidden[-1]), temperature, top_k, generator)
        if token == end:
            return
        tokens.append(token)
        yield token


def _draw(logits: Float[Tensor, "vocab"], temperature: float, top_k: int, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    best = logits.topk(min(top_k, len(logits)))
    chosen = torch.multinomial((best.values / temperature).softmax(-1), 1, generator=generator)
    return int(best.indices[chosen])


def generate(config: DictConfig) -> Iterator[str]:
    """The prompt and its continuation, in pieces of text as they come.

    Raises:
        ValueError: no such run or checkpoint, or a prompt that is empty or fills the model's context.
    """
    run = Run(Path(config.run), packages(config.trust))
    net, tokenizer = run.model(config.checkpoint), run.tokenizer
    assert isinstance(net, GPT)
    tokens = tokenizer.encode(config.prompt).ids
    if not 0 < len(tokens) < net.context:
        raise ValueError(f"the prompt has {len(tokens)} tokens; this model takes 1 to {net.context - 1}")
    generator = torch.Generator().manual_seed(config.seed)
    end = end_of_text(tokenizer)
    shown = ""
    yield config.prompt
    for token in continuation(net, tokens, end, config.tokens, config.temperature, config.top_k, generator):
        tokens.append(token)
        # Decoded from the start: one character may take several tokens, and is held back until it is whole.
        text = tokenizer.decode(tokens)[len(config.prompt) :]
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown) :]
            shown = text


@command("generate", free=("run", "prompt"))  # a prompt has commas, which would be a sweep to Hydra
def main(config: DictConfig) -> None:
    """The command line."""
    for piece in generate(config):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
