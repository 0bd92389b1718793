"""``python -m tti.generate run=FOLDER prompt="One day"``: a trained run continues a story."""

import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor

from tti.configuration import conf_dir, quoted
from tti.data.tokenizers import end_of_text, token_ids
from tti.models.gpt import GPT
from tti.models.stories import Separate
from tti.runs import Run, errors_in_a_line
from tti.schema import check


@torch.no_grad()
def continuation(
    net: GPT,
    tokens: list[int],
    ids: Int[Tensor, "type"],
    end: int,
    limit: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator,
) -> Iterator[int]:
    """Sample tokens after ``tokens`` until the end of text, ``limit`` tokens, or the end of the model's context.

    Only ``ids`` are drawn, which stand for a token: a vocabulary may be padded with rows that stand for none.
    Each token runs the whole story again: stories are short, and there is one attention to trust.
    """
    tokens = list(tokens)
    for _ in range(min(limit, net.context - len(tokens))):
        hidden = net(torch.tensor(tokens), Separate.of([len(tokens)]))
        token = int(ids[_draw(net.logits(hidden[-1])[ids], temperature, top_k, generator)])
        if token == end:
            return
        tokens.append(token)
        yield token


def _draw(logits: Float[Tensor, "type"], temperature: float, top_k: int, generator: torch.Generator) -> int:
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
    ids, end = torch.from_numpy(token_ids(tokenizer)), end_of_text(tokenizer)
    shown = ""
    yield config.prompt
    for token in continuation(net, tokens, ids, end, config.tokens, config.temperature, config.top_k, generator):
        tokens.append(token)
        # Decoded from the start: one character may take several tokens, and is held back until it is whole.
        text = tokenizer.decode(tokens)[len(config.prompt) :]
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown) :]
            shown = text


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="generate")
def main(config: DictConfig) -> None:
    """The command line."""
    with errors_in_a_line():
        check(config)
        for piece in generate(config):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("run", "prompt"))  # a prompt has commas, which would be a sweep to Hydra
    main()
