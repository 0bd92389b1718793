"""Loading of a transformers folder, with one-line errors that name the file and what to do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tti.huggingface.names import FAMILIES

POINTER = b"version https://git-lfs"
COMPILED = {r"^(module\.|_orig_mod\.)+": ""}  # prefixes of weights saved from a compiled or distributed model


def configuration(source: str) -> Any:
    """The ``config.json`` of a folder or of a name on the Hub.

    Raises:
        ValueError: there is none, its files are damaged, or its architecture is not in ``FAMILIES``.
    """
    from transformers import AutoConfig  # takes seconds

    require_files(Path(source))
    try:
        config = AutoConfig.from_pretrained(source)
    except Exception as error:  # transformers and the Hub's client raise many unrelated types
        raise ValueError(
            f"no Hugging Face model in {source} ({_first_line(error)}). hf= takes a folder with config.json, "
            "model.safetensors and tokenizer.json, or a name on the Hub; a run of tti is evaluated with run=FOLDER."
        ) from error
    if config.model_type not in FAMILIES or "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        architecture = ", ".join(config.architectures or [])
        raise ValueError(
            f"{source} is not supported: {architecture} (model_type {config.model_type}). Supported are the language "
            f"models of transformers of model_type {', '.join(FAMILIES)}, without code of their own. (An export with "
            "an MLP that is not GPT-2's is evaluated from its run: run=FOLDER.)"
        )
    return config


def language_model(source: str) -> Any:
    """The model with its weights, in single precision and evaluation mode.

    Raises:
        ValueError: the weights cannot be read, or do not match the architecture; the message names them.
    """
    from transformers import AutoModelForCausalLM

    try:
        with _quiet():
            opened: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, key_mapping=COMPILED, output_loading_info=True
            )
    except Exception as error:  # from safetensors, pickle, json, the file system, the Hub, and torch for shapes
        raise ValueError(
            f"the weights in {source} cannot be loaded ({type(error).__name__}: {_first_line(error)}). Download them "
            "again, or save the model again with save_pretrained."
        ) from error
    model, info = opened
    wrong = {name.removesuffix("_keys"): sorted(map(str, info[name])) for name in LISTS if info[name]}
    if wrong:
        found = "; ".join(f"{len(names)} {kind} ({', '.join(names[:3])}, …)" for kind, names in wrong.items())
        raise ValueError(
            f"the weights in {source} are not those of its config.json: {found}. Missing weights would be drawn at "
            "random. Save the model again with save_pretrained, as the class that config.json names."
        )
    return model.eval()


LISTS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def require_files(folder: Path) -> None:
    """Check the files of a local folder before a library reads them.

    Raises:
        ValueError: one is a Git LFS pointer, or not a safetensors file.
    """
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.is_file() and _begins(path, POINTER):
            raise ValueError(
                f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` there, or download it again"
            )
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a safetensors file ({error}): download it again") from error


def _begins(path: Path, with_: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(with_)) == with_


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' warnings and progress bars; what they would report is checked here."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
