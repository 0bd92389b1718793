"""Autoencoders on the disk, in SAELens' format: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

``sae_lens.SAE.load_from_disk(folder)`` opens it, as what :attr:`SparseAutoencoder.architecture` says it is in
evaluation; :func:`load` opens it as what it was here. Written for SAELens 6 (``WRITTEN_FOR``).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tti.autoencoders.base import SparseAutoencoder
from tti.durable import replacing_folder
from tti.trust import named

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
WRITTEN_FOR = "6.54.0"  # without a version SAELens takes it for one of before 6, and drops the hook's name
HEADS, SAELENS_HEADS = "attn.o.hook_in", "attn.hook_z"  # SAELens lays heads side by side only under the second name
OURS = "tti"  # the key of the metadata under which stands what only we read


def save(
    autoencoder: SparseAutoencoder, folder: Path, hook_name: str, about: Mapping[str, Any], **metadata: Any
) -> None:
    """Write it whole or not at all, in the place of what is there.

    Args:
        autoencoder: trained.
        folder: its own.
        hook_name: TransformerLens' name of the site in an exported model; empty where it has none.
        about: what we want to know of it later; JSON.
        metadata: further entries of SAELens' own: ``model_name``, ``context_size``, ...
    """
    kind = f"{type(autoencoder).__module__}.{type(autoencoder).__qualname__}"
    config = {
        **autoencoder.architecture,
        "d_in": autoencoder.d_in,
        "d_sae": autoencoder.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook_name.endswith(HEADS) else "none",
        "metadata": {
            "sae_lens_version": WRITTEN_FOR,
            "sae_lens_training_version": None,
            "hook_name": hook_name.replace(HEADS, SAELENS_HEADS) or None,
            "prepend_bos": False,
            **metadata,
            OURS: {"kind": kind, "arguments": autoencoder.arguments, **about},
        },
    }
    weights = {name: weight.detach().float().cpu().contiguous() for name, weight in autoencoder.folded().items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(folder) as partial:
        save_file(weights, partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(config, indent=2))


def about(folder: Path) -> dict[str, Any]:
    """What was said of an autoencoder when it was saved.

    Raises:
        ValueError: there is none, it is damaged, or it is not one of ours.
    """
    path = folder / CONFIG
    if not path.exists():
        raise ValueError(f"{folder} holds no autoencoder (no {CONFIG})")
    try:
        return dict(json.loads(path.read_text())["metadata"][OURS])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or was not written by python -m tti.sae ({error!r}); open others with SAELens"
        ) from error


def load(folder: Path, trust: Sequence[str] = ()) -> SparseAutoencoder:
    """An autoencoder, in evaluation mode on the CPU.

    Args:
        folder: its own.
        trust: packages, beside this one, that its kind may be from.

    Raises:
        ValueError: as for :func:`about`; or its kind is none, cannot be imported here, or is of a package that is not
            trusted.
    """
    said = about(folder)
    kind = named(str(said["kind"]), trust)
    if not (isinstance(kind, type) and issubclass(kind, SparseAutoencoder)):
        raise ValueError(f"{folder / CONFIG} is damaged: {said['kind']} is no kind of autoencoder")
    autoencoder = kind(**said["arguments"])
    try:
        autoencoder.load_folded(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, LookupError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}): delete the folder and train it again") from error
    return autoencoder.eval()
