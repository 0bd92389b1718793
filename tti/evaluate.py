"""``python -m tti.evaluate run=FOLDER``: the common evaluation of finished runs, into their ``evaluation/`` folders.

``hf=FOLDER data=…`` evaluates a GPT-2 that was not trained here.
"""

import glob
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tti.autoencoders.base import SparseAutoencoder
from tti.configuration import alternatives, conf_dir, quoted
from tti.data.module import StoryData
from tti.evaluation.base import Part, View
from tti.evaluation.memory import peak_mib
from tti.evaluation.run_through import Rotation, examine, unchanged
from tti.evaluation.sae import autoencoders_in
from tti.evaluation.stories import Chunk, StorySet
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, OtherSchemaError, write
from tti.huggingface.foreign import Foreign
from tti.models.gpt import GPT
from tti.models.identity import weights_digest
from tti.runs import Run, commit, errors_in_a_line, find, root_cause
from tti.schema import check

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
VIEWS: dict[str, View] = {TRAINED: unchanged, RANDOM_INIT: unchanged, ROTATION: Rotation()}


def chosen_runs(pattern: str) -> list[Run]:
    """The runs of a folder, below a folder, or that a glob matches; each a folder with a ``config.yaml``.

    Raises:
        ValueError: there are none.
    """
    folders = [Path(found) for found in sorted(glob.glob(pattern))]  # noqa: PTH207 (Path.glob takes no absolute one)
    if not folders:
        raise ValueError(f"no such folder: {pattern} (from folder {Path.cwd()})")
    runs = [run for folder in folders if folder.is_dir() for run in _runs_in(folder)]
    return list({run.folder.resolve(): run for run in runs}.values()) or find(folders[0])


def _runs_in(folder: Path) -> list[Run]:
    try:
        return find(folder)
    except ValueError:
        return []


class RunEvaluation:
    """The evaluation of one run, or of a model from elsewhere.

    Args:
        run: which has finished.
        config: of the command.

    Raises:
        ValueError: it has not finished, its checkpoint is missing or damaged, or its data are others by now.
    """

    def __init__(self, run: Run | Foreign, config: DictConfig) -> None:
        _ = run.summary  # raises where it has not finished
        self.run, self.config = run, config
        self.device = torch.device(config.device)
        self.net = _as_gpt(run.model(config.checkpoint))
        self.data: StoryData = instantiate(OmegaConf.merge(run.config, {"data": config.data}).data)
        self.stories = StorySet(self.data, config.split, config.tokens_per_chunk)
        self.stories.require(run.tokenizer, run.folder)
        packed = self.stories.packed.manifest
        self.of = {
            "checkpoint": config.checkpoint,
            "step": run.summary["steps"],
            "weights": weights_digest(self.net),
            "stories": len(self.stories.lengths),
            "tokens": self.stories.tokens,
            "token_types": len(self.stories.types),
            "data": packed["arrays"]["tokens"]["sha256"],
            "tokenizer": packed["tokenizer_sha256"],
            "vocab_size": packed["vocab_size"],
            "max_length": self.stories.max_length,
        }

    @cached_property
    def possible(self) -> list[str]:
        """The names of the parts that are asked for and can be done here; says once which cannot."""
        reasons = {
            name: instantiate(self.config.evaluation[name]).inapplicable(self.stories)
            for name in wanted_parts(self.config)
        }
        for name, reason in reasons.items():
            if reason:
                CONSOLE.print(f"  {name}: left out, {reason}", markup=False)
        return [name for name, reason in reasons.items() if not reason]

    def parts(self) -> dict[str, Part]:
        """Fresh parts, by name, of those that are asked for and can be done."""
        return {name: instantiate(self.config.evaluation[name]) for name in self.possible}

    @cached_property
    def cotrained(self) -> dict[str, SparseAutoencoder]:
        """The autoencoders that were trained with the network, by site."""
        return autoencoders_in(self.run.regularizers(self.net.sites, self.config.checkpoint), self.net.sites)

    def networks(self) -> Iterator[tuple[tuple[str, ...], GPT, Mapping[str, SparseAutoencoder]]]:
        """The subjects asked for, by the network that they share, with the autoencoders that were trained with it."""
        asked = [subject for subject in VIEWS if subject in self.config.subjects]
        if shared := tuple(subject for subject in asked if subject != RANDOM_INIT):
            yield shared, self.net, self.cotrained
        if RANDOM_INIT in asked:
            yield (RANDOM_INIT,), _as_gpt(self.run.untrained()), {}

    def evaluate(self) -> int:
        """Do what is not there yet; how many parts that was."""
        done = 0
        for subjects, net, cotrained in self.networks():
            evaluations = {subject: Evaluation(self.run.folder, self.config.split, subject) for subject in subjects}
            pending = {subject: self._pending(evaluation) for subject, evaluation in evaluations.items()}
            if any(pending.values()):
                for autoencoder in cotrained.values():
                    autoencoder.to(self.device)
                done += self._do(net.to(self.device).eval(), cotrained, evaluations, pending)
        return done

    def _do(
        self,
        net: GPT,
        cotrained: Mapping[str, SparseAutoencoder],
        evaluations: Mapping[str, Evaluation],
        pending: Mapping[str, Mapping[str, Part]],
    ) -> int:
        title = ", ".join(f"{subject}: {' '.join(parts)}" for subject, parts in pending.items() if parts)
        CONSOLE.print(f"  {title}")
        views = {subject: VIEWS[subject] for subject, parts in pending.items() if parts}
        shared = examine(
            net,
            self.stories,
            views,
            {subject: list(pending[subject].values()) for subject in views},
            self.config.calibration_tokens,
            shown,
            cotrained,
        )
        failures = []
        for subject in views:
            for name, part in pending[subject].items():
                try:
                    with torch.no_grad(), part.timed(), telling(part, f"  {subject}: {name}"):
                        result = part.compute()
                except ValueError as error:  # the others are written all the same
                    failures.append(f"{subject}: {name}: {error}")
                    continue
                cost = {"seconds": part.seconds, "shared_seconds": shared, "peak_mib": peak_mib(self.device)}
                write(evaluations[subject], name, result, self._about(name) | {"cost": cost})
        if failures:
            raise ValueError("\n  ".join(failures))
        return sum(map(len, pending.values()))

    def _pending(self, evaluation: Evaluation) -> dict[str, Part]:
        parts = {name: part for name, part in self.parts().items() if evaluation.subject in part.subjects}
        if self.config.overwrite:
            return parts
        return {name: part for name, part in parts.items() if not self._is_there(evaluation, name)}

    def _is_there(self, evaluation: Evaluation, name: str) -> bool:
        if name not in evaluation.parts():
            return False
        try:
            part = evaluation.part(name)
        except OtherSchemaError as error:
            raise ValueError(f"{error} With overwrite=true it is evaluated again in its place.") from error
        except ValueError:  # damaged
            return False
        about = self._about(name)
        return part.content.get("of") == about["of"] and part.content.get("settings") == about["settings"]

    def _about(self, name: str) -> dict[str, Any]:
        settings = OmegaConf.to_container(self.config.evaluation[name], resolve=True)
        assert isinstance(settings, dict)
        shared = {key: self.config[key] for key in ("tokens_per_chunk", "calibration_tokens")}
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        made = datetime.now(UTC).isoformat(timespec="seconds")
        environment = {"commit": commit(), "torch": torch.__version__, "device": device, "made": made}
        return {"of": self.of, "settings": {**settings, **shared}, "environment": environment}


def wanted_parts(config: DictConfig) -> list[str]:
    """The names of the parts that are asked for.

    Raises:
        ValueError: one is unknown; the message names those there are.
    """
    known = list(config.evaluation)
    names = (
        known
        if config.parts is None
        else list(config.parts if isinstance(config.parts, ListConfig) else [config.parts])
    )
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no part {', '.join(map(str, unknown))}; there are: {', '.join(known)}")
    return names


def _as_gpt(net: torch.nn.Module) -> GPT:
    assert isinstance(net, GPT)
    return net


def shown(chunks: Iterable[Chunk], total: int) -> Iterable[Chunk]:
    """The chunks, while a bar shows how many are done."""
    return track(chunks, "  all tokens", total, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


@contextmanager
def telling(part: Part, title: str) -> Iterator[None]:
    """Show how far a part says that it is."""
    with CONSOLE.status(title) as status:
        part.say = lambda text: status.update(f"{title}: {text}")
        yield


def foreign(config: DictConfig) -> tuple[Foreign, DictConfig]:
    """The model that ``hf`` names, and the command's configuration with its tokenizer and its only checkpoint.

    Raises:
        ValueError: there is none, it is not supported, or it is not said where it is evaluated or where to put that.
    """
    if "corpus" not in config.data:
        raise ValueError(
            "hf= needs the data that the model is evaluated on, which its own tokenizer makes into tokens: "
            "data=tinystories, data.corpus.validation=FILE for files of yours"
        )
    if config.to is None and not Path(config.hf).is_dir():
        raise ValueError(f"{config.hf} is no folder here: give to=FOLDER for the evaluation of a model of the Hub")
    own: dict[str, Any] = {"checkpoint": "model"}
    if "tokenizer" in config.data.corpus:  # else the corpus brings one, which is compared
        own["data"] = {"corpus": {"tokenizer": config.hf}}
    return Foreign(str(config.hf), Path(config.to or config.hf)), DictConfig(OmegaConf.merge(config, own))


def evaluate(config: DictConfig) -> Sequence[tuple[Run | Foreign, str]]:
    """Evaluate the runs, or the model from elsewhere; those that could not be, each with the reason.

    Raises:
        ValueError: there are no runs, or an unknown part is asked for.
    """
    if (config.run is None) == (config.hf is None):
        raise ValueError(
            "what? Either run=FOLDER (a run, a folder of runs, a glob) or hf=FOLDER (a Hugging Face GPT-2)"
        )
    wanted_parts(config)
    unknown = [subject for subject in config.subjects if subject not in VIEWS]
    if unknown:
        raise ValueError(f"no subject {', '.join(unknown)}; there are: {', '.join(VIEWS)}")
    torch.set_num_threads(config.threads)
    subjects: Sequence[Run | Foreign]
    if config.hf is None:
        subjects = chosen_runs(str(config.run))
    else:
        model, config = foreign(config)
        subjects = [model]
    failed = []
    for run in subjects:
        CONSOLE.print(f"{run.folder}")
        try:
            done = RunEvaluation(run, config).evaluate()
            CONSOLE.print(f"  {done} evaluated" if done else "  all there", style="dim")
        except Exception as error:
            root = root_cause(error)
            if not isinstance(root, ValueError):
                raise
            CONSOLE.print(f"  error: {root}", markup=False)
            failed.append((run, str(root)))
    return failed


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
def main(config: DictConfig) -> None:
    """The command line."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with errors_in_a_line():
        check(config)
        failed = evaluate(config)
    if failed:
        sys.exit(f"error: {len(failed)} could not be evaluated: {', '.join(str(run.folder) for run, _ in failed)}")


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("run", "hf", "to"))
    try:
        main()
    except SystemExit as error:
        sys.stderr.write(alternatives(error.__context__))
        raise
