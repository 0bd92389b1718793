"""Errors of the command. tests/models covers sampling, tests/end_to_end the continuation of a story."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace

from tti import generate as generating
from tti.configuration import conf_dir, quoted
from tti.data.grammar import StoryGrammar


@pytest.fixture
def printed_after(monkeypatch):
    """``printed_after(tokenizer, prompt, after)``: the output if a network continues with ``after``."""

    def printed(tokenizer, prompt, after):
        ids = tokenizer.encode(after).ids
        run = SimpleNamespace(model=lambda checkpoint: SimpleNamespace(context=64), tokenizer=tokenizer)
        monkeypatch.setattr(generating, "Run", lambda *arguments: run)
        monkeypatch.setattr("tti.models.generation.continuation", lambda *arguments: iter(ids))
        config = OmegaConf.load(Path(conf_dir(), "generate.yaml"))
        return "".join(generating.generate(OmegaConf.merge(config, {"run": "run", "prompt": prompt})))

    return printed


@pytest.mark.parametrize("prompt", ["one day, a little girl", "One day, a little girl", "Zyx qu"])
def test_all_that_is_generated_is_shown_whatever_the_prompt(printed_after, prompt):
    assert printed_after(StoryGrammar().tokenizer(), prompt, " named Tom lived") == f"{prompt} named Tom lived"


def test_characters_of_several_tokens_come_whole(printed_after):
    tokenizer = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    assert printed_after(tokenizer, "né", " à 🙂.") == "né à 🙂."


def test_words_that_a_tokenizer_does_not_know_are_named():
    tokenizer = Tokenizer(WordLevel({"<|unk|>": 0, "a": 1, "girl": 2}, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = Whitespace()
    assert generating.unknown_words(tokenizer, "a girl") == []
    assert generating.unknown_words(tokenizer, "A girl a boy A") == ["A", "boy"]


def test_values_are_taken_as_they_stand():
    assert quoted(["prompt=One, 'two'", "top_k=3"], ["prompt"]) == [r"prompt='One, \'two\''", "top_k=3"]


def test_a_folder_without_a_run_is_one_clear_line(tmp_path):
    command = [sys.executable, "-m", "tti.generate", f"run={tmp_path}", "prompt=Hi, there"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path} holds no run (no config.yaml). Runs nearby: none"
