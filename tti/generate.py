"""``python -m tti.generate run=FOLDER prompt="One day"``: continue a story with a trained run."""

import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tti.command import command
from tti.data.tokenizers import end_of_text, token_ids
from tti.runs import Run
from tti.trust import packages


def generate(config: DictConfig) -> Iterator[str]:
    """The prompt and its continuation, in pieces of text as they come; unknown words are listed on stderr.

    Raises:
        ValueError: there is no such run or checkpoint, or the prompt is empty or fills the model's context.
    """
    import torch  # takes seconds that `--help` can avoid

    from tti.models.generation import continuation

    run = Run(Path(config.run), packages(config.trust))
    net, tokenizer = run.model(config.checkpoint), run.tokenizer
    tokens = tokenizer.encode(config.prompt).ids
    if not 0 < len(tokens) < net.context:
        raise ValueError(f"the prompt has {len(tokens)} tokens; this model takes 1 to {net.context - 1}")
    if unknown := unknown_words(tokenizer, config.prompt):
        print(f"not in this model's vocabulary: {', '.join(unknown)}", file=sys.stderr)
    generator = torch.Generator().manual_seed(config.seed)
    ids, end = torch.from_numpy(token_ids(tokenizer)), end_of_text(tokenizer)
    yield config.prompt
    # The prompt is decoded too, since a token's text depends on the previous tokens, but it is printed as given: a word
    # that the tokenizer does not know would be decoded to another one.
    text = DecodeStream()
    for token in tokens:
        text.step(tokenizer, token)
    for token in continuation(net, tokens, ids, end, config.tokens, config.temperature, config.top_k, generator):
        yield text.step(tokenizer, token) or ""  # empty while a character is incomplete


def unknown_words(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """The words of a prompt that are unknown to a tokenizer of whole words."""
    encoding = tokenizer.encode(prompt)
    unknown = getattr(tokenizer.model, "unk_token", None)
    pieces = zip(encoding.tokens, encoding.offsets, strict=True)
    return list(dict.fromkeys(prompt[start:end].strip() for token, (start, end) in pieces if token == unknown))


@command("generate", free=("run", "prompt"))  # Hydra would take commas in a prompt for a sweep
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    for piece in generate(config):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
