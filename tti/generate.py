"""``python -m tti.generate run=FOLDER prompt="One day"``: a trained run continues a story."""

import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from tti.configuration import conf_dir, quoted
from tti.data.tokenizers import end_of_text
from tti.models.gpt import GPT
from tti.models.stories import Separate
from tti.runs import Run, errors_in_a_line


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
    run = Run(Path(config.run))
    net, tokenizer = run.model(config.checkpoint), run.tokenizer
    assert isinstance(net, GPT)
    tokens = tokenizer.encode(config.prompt).ids
    if not 0 < len(tokens) < net.context:
        raise ValueError(f"the prompt has {len(tokens)} tokens; this model takes 1 to {net.context - 1}")
    generator = torch.Generator().manual_seed(config.seed)
    end = end_of_text(tokenizer)
    yield config.prompt
    # The prompt is decoded too, since the text of a token depends on those before it, but it is shown as it was given:
    # a word that the tokenizer does not know is decoded to another one.
    text = DecodeStream()
    for token in tokens:
        text.step(tokenizer, token)
    for token in continuation(net, tokens, end, config.tokens, config.temperature, config.top_k, generator):
        yield text.step(tokenizer, token) or ""  # nothing as long as a character is not whole


def unknown_words(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """The words of a prompt that a tokenizer of whole words does not know."""
    encoding = tokenizer.encode(prompt)
    unknown = getattr(tokenizer.model, "unk_token", None)
    pieces = zip(encoding.tokens, encoding.offsets, strict=True)
    return list(dict.fromkeys(prompt[start:end] for token, (start, end) in pieces if token == unknown))


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="generate")
def main(config: DictConfig) -> None:
    """The command line."""
    with errors_in_a_line():
        if unknown := unknown_words(Run(Path(config.run)).tokenizer, config.prompt):
            print(f"not in this model's vocabulary: {', '.join(unknown)}", file=sys.stderr)
        for piece in generate(config):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("run", "prompt"))  # a prompt has commas, which would be a sweep to Hydra
    main()
