"""``python -m tti.generate run=FOLDER prompt="One day"``: a trained run continues a story."""

from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig

from tti.command import command
from tti.data.tokenizers import end_of_text
from tti.models.generation import continuation
from tti.runs import Run
from tti.trust import packages


def generate(config: DictConfig) -> Iterator[str]:
    """The prompt and its continuation, in pieces of text as they come.

    Raises:
        ValueError: no such run or checkpoint, or a prompt that is empty or fills the model's context.
    """
    run = Run(Path(config.run), packages(config.trust))
    net, tokenizer = run.model(config.checkpoint), run.tokenizer
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
