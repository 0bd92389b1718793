"""A run folder as an object: what it holds, whether it may be started, and the trained model in it."""

import json
import os
import platform
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer

from tti.configuration import identity
from tti.data import tokenizers
from tti.durable import write_atomically

Status = Literal["finished", "failed", "unfinished", "not started"]
MISSING = "-"
START = ".start.yaml"


@dataclass(frozen=True)
class Run:
    """A run folder.

    ``config.yaml`` (composed, resolved), ``overrides.yaml``, ``environment.jsonl`` (a line a start: command, commit,
    versions, machine), ``tokenizer.json``, ``metrics.jsonl`` (append-only), ``checkpoints/last.ckpt`` and
    ``best.ckpt``, ``train.log``; ``summary.json`` once finished, ``progress.json`` before (rewritten now and then),
    ``failure.json`` while the last try failed.
    ``.start.yaml`` is what the last start was composed to, for processes that Lightning starts beside it;
    ``calls.jsonl`` how it was started elsewhere (``tti.launchers.calls``); ``wandb_id`` its id there.
    """

    folder: Path

    # -- what it holds ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """How far it came. A run that was killed is unfinished."""
        if (self.folder / "summary.json").exists():
            return "finished"
        if (self.folder / "failure.json").exists():
            return "failed"
        return "unfinished" if (self.folder / "config.yaml").exists() else "not started"

    @cached_property
    def config(self) -> DictConfig:
        """The resolved configuration.

        Raises:
            ValueError: the folder holds no run.
        """
        path = self.folder / "config.yaml"
        if not path.exists():
            known = ", ".join(sorted(str(found) for found in nearby(self.folder))) or "none"
            raise ValueError(f"{self.folder} holds no run (no config.yaml). Runs nearby: {known}")
        return DictConfig(OmegaConf.load(path))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The final figures.

        Raises:
            ValueError: the run has not finished.
        """
        if self.status != "finished":
            raise ValueError(f"{self.folder} is {self.status}: start it again to finish it")
        return dict(json.loads((self.folder / "summary.json").read_text()))

    @property
    def failure(self) -> str:
        """Why the last try failed, in its own words."""
        return self._failure["error"]

    @property
    def traceback(self) -> str:
        """Where it did."""
        return self._failure["traceback"]

    @property
    def _failure(self) -> dict[str, str]:
        path = self.folder / "failure.json"
        return dict(json.loads(path.read_text())) if path.exists() else {"error": "", "traceback": ""}

    def metrics(self) -> list[dict[str, float]]:
        """What was logged, one entry a step in the order of steps.

        A step written twice, by a run that was killed and resumed, counts once, with its last values.
        """
        steps: dict[int, dict[str, float]] = {}
        path = self.folder / "metrics.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut short by a kill; the resumed run wrote it again
            steps.setdefault(entry["step"], {}).update(entry)
        return [steps[step] for step in sorted(steps)]

    @property
    def start_config(self) -> DictConfig:
        """The resolved configuration of the last start, which may differ from ``config`` in what has no effect."""
        return DictConfig(OmegaConf.load(self.folder / START))

    @property
    def environment(self) -> dict[str, Any]:
        """Command, commit, versions and machine of the last start."""
        lines = (self.folder / "environment.jsonl").read_text().splitlines()
        return dict(json.loads(lines[-1]))

    @property
    def last_checkpoint(self) -> Path | None:
        """Where to go on from, if anywhere.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "checkpoints" / "last.ckpt"
        if not path.exists():
            return None
        if not zipfile.is_zipfile(path):  # its directory stands at the end, which a truncated file lacks
            raise ValueError(
                f"{path} is damaged. Copy best.ckpt over it to go on from the best validation, or delete it to begin "
                "at step 0; then start again."
            )
        return path

    @property
    def checkpoint_step(self) -> int:
        """Optimiser steps in the last checkpoint, 0 without one."""
        path = self.last_checkpoint
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]) if path else 0

    # -- the trained model ------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer.

        Raises:
            ValueError: the run stopped before it had one, or it is damaged.
        """
        path = self.folder / "tokenizer.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no tokenizer.json: it stopped before training began")
        return tokenizers.read(path)

    def model(self, checkpoint: str = "last") -> torch.nn.Module:
        """The network, in evaluation mode on the CPU, from ``checkpoints/<checkpoint>.ckpt``.

        Raises:
            ValueError: there is no such checkpoint, or it does not fit the run's configuration.
        """
        config, path = self.config.copy(), self._checkpoint(checkpoint)  # where there is no run, that is what is said
        config.model.vocab_size = config.model.vocab_size or tokenizers.vocabulary_size(self.tokenizer)
        net: torch.nn.Module = instantiate(config.model)
        _load(net, "net", path)
        return net.eval()

    def regularizers(self, sites: Mapping[str, int], checkpoint: str = "last") -> torch.nn.ModuleDict:
        """The regularizers by name, with what they have learned, in evaluation mode on the CPU.

        Args:
            sites: of the network, with their widths.

        Raises:
            ValueError: as for :meth:`model`.
        """
        path = self._checkpoint(checkpoint)
        made = {name: instantiate(each, _convert_="all") for name, each in self.config.regularizer.items()}
        for regularizer in made.values():
            regularizer.attach(sites)
        regularizers = torch.nn.ModuleDict(made)
        _load(regularizers, "regularizers", path)
        return regularizers.eval()

    def _checkpoint(self, name: str) -> Path:
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in path.parent.glob("*.ckpt"))) or "none"
            raise ValueError(f"{self.folder} has no checkpoint {name!r}; it has: {known}")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is damaged: it was cut short, or is no checkpoint")
        return path

    def untrained(self) -> torch.nn.Module:
        """The network that training began with."""
        from lightning import seed_everything  # seconds of imports, which a report need not wait for

        config = self.config.copy()
        config.model.vocab_size = config.model.vocab_size or tokenizers.vocabulary_size(self.tokenizer)
        seed_everything(config.seed, verbose=False)
        net: torch.nn.Module = instantiate(config.model)
        return net

    # -- starting and finishing -------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder against a second process.

        Raises:
            ValueError: another process is training in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"another process is training in {self.folder}. (For several processes in one run let Lightning start "
                "them: trainer=ddp, without torchrun or srun.)"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: DictConfig, overrides: list[str], overwrite: bool) -> None:
        """Make the folder ready for a new start or a resumption.

        Raises:
            ValueError: it holds a run of another configuration; the message names the keys that differ.
        """
        if overwrite:
            self._clear()
        if (self.folder / "config.yaml").exists():
            require_same(str(self.folder), self.config, config)
            self.folder.joinpath("failure.json").unlink(missing_ok=True)
        else:
            write_atomically(self.folder / "overrides.yaml", OmegaConf.to_yaml(overrides))
            write_atomically(self.folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        write_atomically(self.folder / START, OmegaConf.to_yaml(config, resolve=True))
        with (self.folder / "environment.jsonl").open("a") as file:
            file.write(json.dumps(environment(overrides)) + "\n")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, which says that the run is finished."""
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=2))
        self.folder.joinpath("progress.json").unlink(missing_ok=True)

    def fail(self, error: BaseException) -> None:
        """Leave word of why this try failed."""
        trace = "".join(traceback.format_exception(error))
        root = root_cause(error)
        report = {"error": f"{type(root).__name__}: {root}", "traceback": trace}
        write_atomically(self.folder / "failure.json", json.dumps(report, indent=2))

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in {".lock", "train.log"}:  # both are open
                path.unlink()


def _load(module: torch.nn.Module, name: str, path: Path) -> None:
    """Fill a module with what the checkpoint has under ``name``."""
    state, prefix = torch.load(path, map_location="cpu", weights_only=True)["state_dict"], f"{name}."
    try:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    except RuntimeError as error:
        raise ValueError(f"{path} was made by another model than its config.yaml says: {error}") from error


def require_same(folder: str, there: DictConfig, wanted: DictConfig) -> None:
    """Compare what a folder holds with what is to be trained in it.

    Raises:
        ValueError: they differ; the message names the keys.
    """
    old, new = identity(there), identity(wanted)
    keys = sorted(key for key in old | new if old.get(key, MISSING) != new.get(key, MISSING))
    if keys:
        lines = [f"  {key}: {old.get(key, MISSING)} there, {new.get(key, MISSING)} wanted" for key in keys]
        raise ValueError(
            "\n".join([f"{folder} holds a run of another configuration:", *lines])
            + "\nGive this one a name of its own (name=...), or overwrite=true to start again in its place."
        )


def find(pattern: str | Path) -> list[Run]:
    """The runs at or below a folder, in the order of their names.

    Raises:
        ValueError: there are none.
    """
    folder = Path(pattern)
    runs = [
        Run(path.parent) for path in sorted(folder.rglob("config.yaml")) if (path.parent / "overrides.yaml").exists()
    ]
    if not runs:
        raise ValueError(f"no runs in {folder.resolve()}")
    return runs


def nearby(folder: Path) -> list[Path]:
    """Some run folders at or below the nearest existing parent of ``folder``."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return [path.parent for path in list(parent.glob("*/config.yaml")) + list(parent.glob("*/*/config.yaml"))][:8]


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """A ValueError, also one that Hydra wraps, ends the command with its message; anything else is raised as it is."""
    try:
        yield
    except Exception as error:
        root = root_cause(error)
        if not isinstance(root, ValueError):
            raise
        sys.exit(f"error: {root}")


def root_cause(error: BaseException) -> BaseException:
    """The error itself, where Hydra wraps one that came from instantiating something."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def environment(overrides: list[str]) -> dict[str, Any]:
    """What a result depends on beside its configuration."""
    packages = ("torch", "lightning", "hydra-core", "transformers", "tokenizers", "datasets", "torchmetrics")
    return {
        "command": " ".join(["python -m tti.train", *overrides]),
        "commit": commit(),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores",
    }


def commit() -> str:
    """The commit of the code that runs, with ``-dirty`` if it was changed since; ``unknown`` outside a checkout.

    $TTI_COMMIT says it where the code was shipped from a checkout to another machine.
    """
    if "TTI_COMMIT" in os.environ:
        return os.environ["TTI_COMMIT"]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match", "nothing"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
