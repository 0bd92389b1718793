"""Saving and loading of autoencoders in SAELens' format: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

``sae_lens.SAE.load_from_disk(folder)`` opens it as the architecture in :attr:`SparseAutoencoder.architecture`;
:func:`load` opens it as its original kind. Written for SAELens 6 (``WRITTEN_FOR``).
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
WRITTEN_FOR = "6.54.0"  # without a version, SAELens assumes one before 6 and drops the hook name
HEADS, SAELENS_HEADS = "attn.o.hook_in", "attn.hook_z"  # SAELens concatenates heads only under the second name
OURS = "tti"  # metadata key for entries that only tti reads


def save(
    autoencoder: SparseAutoencoder, folder: Path, hook_name: str, about: Mapping[str, Any], **metadata: Any
) -> None:
    """Save atomically, replacing what is there.

    Args:
        autoencoder: a trained autoencoder.
        folder: its folder.
        hook_name: TransformerLens' name of the site in an exported model; empty if it has none.
        about: further information, returned by :func:`about`; must be JSON.
        metadata: further entries of SAELens' metadata: ``model_name``, ``context_size``, ...
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
    """The information saved with an autoencoder.

    Raises:
        ValueError: there is no autoencoder, it is damaged, or tti did not write it.
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
    """Load an autoencoder, in evaluation mode on the CPU.

    Args:
        folder: its folder.
        trust: packages, besides tti, that its class may come from.

    Raises:
        ValueError: as for :func:`about`; or its class is not an autoencoder, cannot be imported, or is from a package
            that is not trusted.
    """
    said = about(folder)
    kind = named(str(said["kind"]), trust)
    if not (isinstance(kind, type) and issubclass(kind, SparseAutoencoder)):
        raise ValueError(f"{folder / CONFIG} is damaged: {said['kind']} is not a kind of autoencoder")
    autoencoder = kind(**said["arguments"])
    try:
        autoencoder.load_folded(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, LookupError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}): delete the folder and train it again") from error
    return autoencoder.eval()
