"""``python -m tti.export run=FOLDER to=FOLDER``: export a run as a Hugging Face folder for other tools."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Int
from omegaconf import DictConfig
from rich.console import Console

from tti.command import command
from tti.data import tokenizers
from tti.durable import replacing_folder, write_atomically
from tti.huggingface.hub import push, require_name
from tti.huggingface.names import place
from tti.runs import Run, commit
from tti.trust import packages

if TYPE_CHECKING:
    from torch import Tensor

    from tti.data.module import StoryData
    from tti.models.gpt import GPT

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
ABOUT = "export.json"
TOLERANCE = 1e-4


def export(config: DictConfig) -> Path:
    """Write the export, compare its logits with the run's, and move it into place.

    Raises:
        ValueError: there is no such run or checkpoint, it has not finished, the folder exists, the data have changed,
            the MLP cannot be exported, or the logits differ. Nothing is left behind then. Or the Hub refuses the
            upload; the export is then kept.
    """
    from tti.huggingface.card import card  # imports torch, which takes seconds that `--help` can avoid
    from tti.huggingface.folder import write
    from tti.models.gpt import require_gpt

    run, to = Run(Path(config.run), packages(config.trust)), Path(config.to)
    if config.push:
        require_name(config.push)
    _require_finished(run, config.unfinished)
    _require_free(to, config.overwrite)
    net = require_gpt(run.model(config.checkpoint))
    stories = _stories(run, config)
    with replacing_folder(to.absolute()) as folder, CONSOLE.status("writing and comparing"):
        write(folder, net, run.config.model.mlp, run.tokenizer)
        about = _about(run, config, net) | {"compared": _compared(folder, net, stories)}
        write_atomically(folder / ABOUT, json.dumps(about, indent=2))
        address = config.push or str(to)
        write_atomically(folder / "README.md", card(run, about, address))
    difference = about["compared"]["largest_logit_difference"]
    CONSOLE.print(f"{to}: logits equal to {difference['float32']:.1e} over {about['compared']['tokens']:,} tokens")
    if config.push:
        CONSOLE.print(f"uploaded to {push(to, config.push, config.private)}")
    return to


def _require_finished(run: Run, unfinished: bool) -> None:
    _ = run.config  # raises if there is no run, and lists those nearby
    if run.status != "finished" and not unfinished:
        step = run.checkpoint_step
        way_out = f", or export its last checkpoint, of step {step}, with unfinished=true" if step else ""
        raise ValueError(f"{run.folder} is {run.status}: start it again to finish it{way_out}")


def _require_free(to: Path, overwrite: bool) -> None:
    if to.exists() and not (overwrite and (to / ABOUT).exists()):
        raise ValueError(
            f"{to} is an export already: overwrite=true replaces it"
            if (to / ABOUT).exists()
            else f"{to} exists and is not an export: name a folder that does not exist"
        )


def _stories(run: Run, config: DictConfig) -> "Sequence[Int[Tensor, 'token']]":
    """The first stories of the run's validation split, each truncated at the model's context."""
    import torch

    data: StoryData = run.data(config.data)
    packed = data.split("validation")
    if packed.manifest["tokenizer_sha256"] != tokenizers.fingerprint(run.tokenizer):
        raise ValueError(
            f"the data of {run.folder} now have another tokenizer than the run; name those that it was trained on: "
            "+data.corpus.tokenizer=..., +data.corpus.train=..."
        )
    lengths = packed.lengths[: config.stories].clip(max=data.max_length)
    return [
        torch.from_numpy(packed.tokens[start : start + length].astype("int64"))
        for start, length in zip(packed.offsets, lengths, strict=False)
        if length
    ]


def _compared(folder: Path, net: "GPT", stories: "Sequence[Int[Tensor, 'token']]") -> dict[str, Any]:
    """The largest differences from the logits that transformers computes with the exported folder.

    The comparison is decided in double precision. In single precision rounding may select the other of two nearly equal
    hidden units under top-k, which is the model's own sensitivity.

    Raises:
        ValueError: a difference exceeds ``TOLERANCE``, or is NaN.
    """
    import torch

    from tti.huggingface.folder import largest_difference, open_model

    theirs = open_model(folder)
    largest = {
        name: largest_difference(net, theirs, stories, dtype)
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
    }
    if not largest["float64"] <= TOLERANCE:
        raise ValueError(
            f"the exported model differs from the run: its logits differ by up to {largest['float64']:.1e} (allowed: "
            f"{TOLERANCE:.0e}). If the MLP is your own: does it keep state that is neither a parameter nor a "
            "persistent buffer?"
        )
    return {"stories": len(stories), "tokens": sum(map(len, stories)), "largest_logit_difference": largest}


def _about(run: Run, config: DictConfig, net: "GPT") -> dict[str, Any]:
    from tti.huggingface.gpt2 import is_gpt2, is_named, mlps

    mlp = next(mlps(net))
    return {
        "run": run.config.run_dir,
        "status": run.status,
        "checkpoint": config.checkpoint,
        "step": run.step(config.checkpoint),
        "commit": commit(),
        "remote_code": not is_gpt2(net),
        "licence": config.licence,
        "data_licence": config.data_licence,
        "mlp": mlp.described,
        "parameters": sum(each.numel() for each in net.parameters()),
        "weights_per_token": net.operations_per_token // 6,
        "sites": {site: vars(place(site, is_named(mlp))) for site in net.sites},
    }


@command("export", free=("run", "to", "data_licence"))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    export(config)


if __name__ == "__main__":
    main()
