"""The evaluation of one trained model: it measures and writes the requested parts that are missing."""

import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer
from torch import nn

from tti.command import explained
from tti.configuration import root_cause
from tti.data.module import StoryData
from tti.evaluation.base import Part, Subject, View, unchanged
from tti.evaluation.earlier import SUBJECTS, as_today
from tti.evaluation.memory import peak_mib
from tti.evaluation.rounding import rounded
from tti.evaluation.run_through import Rotation, examine
from tti.evaluation.stories import Chunk, StorySet
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, OtherSchemaError, write
from tti.models.identity import weights_digest
from tti.models.network import Network, Site

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
VIEWS: dict[str, View] = {TRAINED: unchanged, RANDOM_INIT: unchanged, ROTATION: Rotation()}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Trained(Protocol):
    """A trained model: a run, or an external model."""

    @property
    def folder(self) -> Path:
        """The folder in which ``evaluation/`` is written."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """``steps``, the length of training, or None if unknown.

        Raises:
            ValueError: training has not finished.
        """

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    def data(self, given: DictConfig) -> Any:
        """The data module, with the command's data configuration overriding the model's own."""

    def model(self, checkpoint: str) -> Network:
        """The network, in evaluation mode on the CPU."""

    def untrained(self) -> Network:
        """The network before training, or an untrained one like it."""

    def regularizers(self, sites: Mapping[str, Site], checkpoint: str) -> nn.ModuleDict:
        """The regularizers of training, with their trained parameters."""


class Runner:
    """The evaluation of one trained model.

    Args:
        trained: a model whose training has finished.
        config: the command's configuration.
        code: the commit of the evaluating code.

    Raises:
        ValueError: training has not finished, the checkpoint is missing or damaged, or the data have changed.
    """

    def __init__(self, trained: Trained, config: DictConfig, code: str) -> None:
        steps = trained.summary["steps"]
        self.trained, self.config, self.code = trained, config, code
        self.device, self.dtype = torch.device(config.device), DTYPES[config.dtype]
        self.net = trained.model(config.checkpoint)
        self.data: StoryData = trained.data(config.data)
        self.stories = StorySet(self.data, config.split, config.tokens_per_chunk)
        began_with = None if config.data else trained.summary.get("data", {}).get(config.split)
        self.stories.require(trained.tokenizer, began_with, trained.folder)
        packed = self.stories.packed.manifest
        self.of = {
            "checkpoint": config.checkpoint,
            "step": steps,
            "weights": weights_digest(self.net),
            "stories": len(self.stories.lengths),
            "tokens": self.stories.tokens,
            "token_types": len(self.stories.types),
            "data": packed["arrays"]["tokens"]["sha256"],
            "tokenizer": packed["tokenizer_sha256"],
            "vocab_size": packed["vocab_size"],
            "max_length": self.stories.max_length,
        }
        if self.dtype != torch.float32:
            self.of["dtype"] = config.dtype
        self.rounding: dict[str, str] = {}
        self.left_out: set[tuple[str, str]] = set()
        self.unloadable = ""
        self.failures: list[str] = []

    def evaluate(self) -> int:
        """Compute the missing parts; returns how many.

        Raises:
            ValueError: some parts failed. The others are written all the same.
        """
        done = 0
        for subjects in self._sharing_a_network():
            pending = {subject: self._pending(subject) for subject in subjects}
            if any(pending.values()):
                done += self._do(pending)
        if self.failures:
            raise ValueError("\n  ".join(self.failures))
        return done

    # -- what is missing ----------------------------------------------------------------------------------------------

    def _sharing_a_network(self) -> Iterator[list[Subject]]:
        asked = [name for name in VIEWS if name in self.config.subjects]
        views = [name for name in asked if name != RANDOM_INIT]
        if views:
            net, regularizers = self._ready(self.net, views), self._regularizers().to(self.device)
            yield [Subject(name, net, self.stories, VIEWS[name], regularizers) for name in views]
        if RANDOM_INIT in asked:
            yield [Subject(RANDOM_INIT, self._ready(self.trained.untrained().eval(), [RANDOM_INIT]), self.stories)]

    def _ready(self, net: Network, subjects: Iterable[str]) -> Network:
        """The network on the device, converted to ``dtype``; its rounding error is recorded and printed."""
        net = net.to(self.device)
        if self.dtype != torch.float32:
            off = str(rounded(net, self.dtype, self.stories))
            self.rounding |= dict.fromkeys(subjects, off)
            CONSOLE.print(f"  {self.config.dtype}: {off}", markup=False)
        return net

    def _regularizers(self) -> nn.ModuleDict:
        """The regularizers of training. If they cannot be loaded, only the parts that need them fail."""
        try:
            return self.trained.regularizers(self.net.sites, self.config.checkpoint)
        except Exception as error:
            self.unloadable = in_a_line(error)
            return nn.ModuleDict()

    def _pending(self, subject: Subject) -> dict[str, Part]:
        evaluation, pending = self._of(subject), {}
        for name in wanted_parts(self.config):
            settings = self.config.evaluation[name]
            if subject.name not in settings[SUBJECTS] or self._is_there(evaluation, name):
                continue
            part = made(settings)
            if part.needs_regularizers and subject.net is self.net and self.unloadable:
                self.failures.append(f"{subject.name}: {name}: {self.unloadable}")
            elif reason := part.inapplicable(subject):
                self._leave_out(name, reason)
            else:
                pending[name] = part
        return pending

    def _leave_out(self, name: str, reason: str) -> None:
        if (name, reason) not in self.left_out:
            CONSOLE.print(f"  {name}: left out, {reason}", markup=False)
        self.left_out.add((name, reason))

    def _of(self, subject: Subject) -> Evaluation:
        return Evaluation(self.trained.folder, self.config.split, subject.name)

    def _is_there(self, evaluation: Evaluation, name: str) -> bool:
        if self.config.overwrite or name not in evaluation.parts():
            return False
        try:
            part = evaluation.part(name)
            part.arrays.verify()
        except OtherSchemaError as error:
            raise ValueError(f"{error} overwrite=true evaluates it again and replaces it.") from error
        except ValueError:  # damaged
            return False
        return part.content.get("of") == self.of and as_today(part.content.get("settings")) == self._how(name)

    # -- computing ----------------------------------------------------------------------------------------------------

    def _do(self, pending: Mapping[Subject, Mapping[str, Part]]) -> int:
        pending = {subject: parts for subject, parts in pending.items() if parts}
        CONSOLE.print("  " + ", ".join(f"{subject.name}: {' '.join(parts)}" for subject, parts in pending.items()))
        everything = {subject: list(parts.values()) for subject, parts in pending.items()}
        shared = examine(everything, self.config.calibration_tokens, shown)
        return sum(
            self._computed(subject, name, part, shared)
            for subject, parts in pending.items()
            for name, part in parts.items()
        )

    def _computed(self, subject: Subject, name: str, part: Part, shared: float) -> bool:
        try:
            with torch.no_grad(), part.timed(), telling(part, f"  {subject.name}: {name}"):
                result = part.compute()
        except Exception as error:
            self.failures.append(f"{subject.name}: {name}: {in_a_line(error)}")
            return False
        cost = {"seconds": part.seconds, "shared_seconds": shared, "peak_mib": peak_mib(self.device)}
        about = {"of": self.of, "settings": self._how(name), "environment": self._environment(subject), "cost": cost}
        write(self._of(subject), name, result, about)
        return True

    def _how(self, name: str) -> Any:
        settings = OmegaConf.to_container(self.config.evaluation[name], resolve=True)
        assert isinstance(settings, dict)
        shared = {key: self.config[key] for key in ("tokens_per_chunk", "calibration_tokens")}
        return as_today({**settings, **shared})

    def _environment(self, subject: Subject) -> dict[str, str]:
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        off = {"rounding": self.rounding[subject.name]} if subject.name in self.rounding else {}
        return {"commit": self.code, "torch": torch.__version__, "device": device, "made": made_at, **off}


def made(settings: DictConfig, **others: Any) -> Part:
    """Instantiate the part that a YAML of ``conf/evaluation`` describes; ``others`` override its settings."""
    settings = copy(settings)
    with open_dict(settings):
        settings.pop(SUBJECTS, None)
    part: Part = instantiate(settings, **others)
    return part


def wanted_parts(config: DictConfig) -> list[str]:
    """Names of the requested parts.

    Raises:
        ValueError: a part is unknown; the message lists the available ones.
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


def require_known(config: DictConfig) -> None:
    """Check the requested parts and subjects.

    Raises:
        ValueError: one is unknown; the message lists the available ones.
    """
    wanted_parts(config)
    if unknown := [name for name in config.subjects if name not in VIEWS]:
        raise ValueError(f"no subject {', '.join(unknown)}; there are: {', '.join(VIEWS)}")


def in_a_line(error: Exception) -> str:
    """The message of an error; an unexpected error is printed with its traceback first."""
    if message := explained(error):
        return message
    root = root_cause(error)
    CONSOLE.print("".join(traceback.format_exception(error)), markup=False)
    return f"{type(root).__name__}: {root}"


def shown(chunks: Iterable[Chunk], total: int) -> Iterable[Chunk]:
    """The chunks, with a progress bar."""
    return track(chunks, "  all tokens", total, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


@contextmanager
def telling(part: Part, title: str) -> Iterator[None]:
    """Show the progress that a part reports."""
    with CONSOLE.status(title) as status:
        part.say = lambda text: status.update(f"{title}: {text}")
        yield
