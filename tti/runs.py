"""A run folder as an object: its content, whether the run may be started, and the trained model."""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer

from tti.configuration import Recorded, root_cause, without_repetitions
from tti.data import tokenizers
from tti.durable import (
    acquire,
    append_line,
    read_checkpoint,
    read_json,
    read_lines,
    require_whole,
    write_atomically,
)
from tti.precision import decided
from tti.trust import allowed, configuration, load

if TYPE_CHECKING:
    import torch

    from tti.data.corpora import Corpus
    from tti.models.network import Network, Site

# torch and everything built on it are imported on use: a finished run need not wait seconds for them.
Status = Literal["finished", "failed", "unfinished", "not started"]
START = ".start.yaml"
UNKNOWN = dict.fromkeys(("command", "commit", "python", "platform", "device"), "unknown") | {
    "packages": {"torch": "unknown"}
}
# Files of a run and of commands on it, in the order in which they are deleted: the mark of a finished run first, the
# run's identity last, so that a kill in between leaves nothing that passes for another run.
OWN = (
    "summary.json", "failure.json", "progress.json", "evaluation", "sae", "checkpoints", "metrics.jsonl", "calls.jsonl",
    "wandb", "wandb_id", "wandb_unsure", "tensorboard", "tokenizer.json", "environment.jsonl", START, "overrides.yaml",
    "config.yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder.

    It holds ``config.yaml`` (composed, resolved), ``overrides.yaml``, ``environment.jsonl`` (one line per start:
    command, commit, versions, machine), ``tokenizer.json``, ``metrics.jsonl`` (append-only), ``checkpoints/last.ckpt``
    and ``best.ckpt``, and ``train.log``; ``summary.json`` once finished, ``progress.json`` before (rewritten now and
    then), and ``failure.json`` if the last try failed. ``.start.yaml`` is the configuration of the last start, for
    further processes that Lightning starts; ``calls.jsonl`` records remote starts (``tti.launchers.calls``);
    ``wandb_id`` is its W&B id.

    Args:
        folder: the folder. It may come from somebody else: its ``config.yaml`` is read as data.
        trust: packages that the configuration may name besides ours and torch's (``tti.trust``).
    """

    folder: Path
    trust: tuple[str, ...] = ()

    # -- content -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status. A run that was killed is unfinished."""
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
        return without_repetitions(configuration(load(path), str(path)))

    @property
    def overrides(self) -> list[str]:
        """The overrides that it was composed from.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "overrides.yaml"
        return [str(override) for override in load(path)]

    @property
    def recorded(self) -> Recorded:
        """The configuration with the overrides that it was composed from.

        Raises:
            ValueError: the folder holds no run.
        """
        return Recorded(self.config, self.overrides if (self.folder / "overrides.yaml").exists() else None)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The final figures.

        Raises:
            ValueError: the run has not finished.
        """
        if self.status != "finished":
            raise ValueError(f"{self.folder} is {self.status}: start it again to finish it")
        return read_json(self.folder / "summary.json")

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the tokens of the training and validation splits; empty for early runs."""
        return dict(self.summary.get("data", {}))

    def digests_now(self, corpus: "Corpus") -> dict[str, str]:
        """The digests of a corpus today, without reading splits whose cache has the name of the run's."""
        caches: dict[str, str] = self.summary.get("caches", {})
        return {
            split: self.digests[split] if corpus.folder(split).name == cache else corpus.digest(split)
            for split, cache in caches.items()
        }

    @property
    def failure(self) -> str:
        """Message of the last try's error."""
        return self._failure["error"]

    @property
    def traceback(self) -> str:
        """Traceback of the last try's error."""
        return self._failure["traceback"]

    @property
    def _failure(self) -> dict[str, str]:
        path = self.folder / "failure.json"
        return {"error": "", "traceback": ""} | (read_json(path) if path.exists() else {})

    def metrics(self) -> list[dict[str, float]]:
        """The logged metrics, one entry per step, in order.

        A step written twice, by a run that was killed and resumed, counts once, with its last values.
        """
        steps: dict[int, dict[str, float]] = {}
        for entry in read_lines(self.folder / "metrics.jsonl"):  # without lines cut short by a kill
            if "step" in entry:
                steps.setdefault(entry["step"], {}).update(entry)
        return [steps[step] for step in sorted(steps)]

    @property
    def start_config(self) -> DictConfig:
        """The resolved configuration of the last start, which may differ from ``config`` in keys without effect."""
        return configuration(load(self.folder / START), str(self.folder / START))

    @property
    def environment(self) -> dict[str, Any]:
        """Command, commit, versions and machine of the last recorded start."""
        lines = read_lines(self.folder / "environment.jsonl")
        return lines[-1] if lines else dict(UNKNOWN)

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if any.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "checkpoints" / "last.ckpt"
        if not path.exists():
            return None
        try:
            require_whole(path)
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged. Copy best.ckpt over it to resume from the best validation, or delete it to begin "
                "at step 0; then start again."
            ) from error
        return path

    @property
    def checkpoint_step(self) -> int:
        """Optimizer steps in the last checkpoint, 0 without one."""
        return self.step("last") if self.last_checkpoint else 0

    def step(self, checkpoint: str) -> int:
        """Optimizer steps in ``checkpoints/<checkpoint>.ckpt``.

        Raises:
            ValueError: there is no such checkpoint, or it is damaged.
        """
        return int(read_checkpoint(self._checkpoint(checkpoint))["global_step"])

    # -- the trained model ------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer.

        Raises:
            ValueError: the run stopped before it had one, or the file is damaged.
        """
        path = self.folder / "tokenizer.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no tokenizer.json: it stopped before training began")
        return tokenizers.read(path)

    def data(self, given: DictConfig) -> Any:
        """The data module, with a command's data configuration overriding the run's own.

        Raises:
            ValueError: the run's configuration names code that is not trusted.
        """
        allowed(self.config.data, self.trust)
        return instantiate(OmegaConf.merge(self.config, {"data": given}).data)

    def model(self, checkpoint: str = "last") -> "Network":
        """The network, in evaluation mode on the CPU, from ``checkpoints/<checkpoint>.ckpt``.

        Raises:
            ValueError: there is no such checkpoint, or it does not fit the run's configuration.
        """
        config, path = self.config.copy(), self._checkpoint(checkpoint)  # raises first if there is no run
        config.model.vocab_size = config.model.vocab_size or tokenizers.vocabulary_size(self.tokenizer)
        net: Network = instantiate(allowed(config.model, self.trust))
        _load(net, "net", path)
        return net.eval()

    def give_weights(self, net: "torch.nn.Module", tokenizer: Tokenizer) -> None:
        """Load this run's last checkpoint into another run's network.

        Raises:
            ValueError: there is no run or checkpoint, or the network or tokenizer differs.
        """
        _ = self.config  # raises if there is no run
        if self.tokenizer.to_str() != tokenizer.to_str():
            raise ValueError(f"{self.folder} has another tokenizer, to which its weights belong")
        _load(net, "net", self._checkpoint("last"))

    def regularizers(self, sites: Mapping[str, "Site"], checkpoint: str = "last") -> "torch.nn.ModuleDict":
        """The regularizers by name, with their trained parameters, in evaluation mode on the CPU.

        Args:
            sites: the network's sites.
            checkpoint: name of the checkpoint.

        Raises:
            ValueError: as for :meth:`model`.
        """
        from torch.nn import ModuleDict

        from tti.regularizers.configured import configured, without_weightings

        path = self._checkpoint(checkpoint)
        allowed(without_weightings(self.config.regularizer), self.trust)
        made = configured(self.config.regularizer)
        for regularizer in made.values():
            regularizer.attach(sites)
        regularizers = ModuleDict(made)
        _load(regularizers, "regularizers", path)
        return regularizers.eval()

    def _checkpoint(self, name: str) -> Path:
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in path.parent.glob("*.ckpt"))) or "none"
            raise ValueError(f"{self.folder} has no checkpoint {name!r}; it has: {known}")
        return path

    def untrained(self) -> "Network":
        """The network before training, whose weights are the first to be drawn from the seed."""
        from lightning import seed_everything

        config = self.config.copy()
        config.model.vocab_size = config.model.vocab_size or tokenizers.vocabulary_size(self.tokenizer)
        seed_everything(config.seed, verbose=False)
        net: Network = instantiate(allowed(config.model, self.trust))
        return net

    def operations(self) -> float:
        """Floating-point operations of the whole training (``Network.operations_per_token``).

        NaN if neither the summary nor the configuration describes the network, or if its code is not trusted.
        """
        per_token = self.summary.get("operations_per_token") or self._operations_per_token()
        return float(per_token * self.summary["tokens"])

    def _operations_per_token(self) -> float:
        """For runs whose summary does not have it yet."""
        import torch

        from tti.models.network import Network

        if "_target_" not in (self.config.get("model") or {}):
            return math.nan
        config = self.config.copy()
        config.model.vocab_size = config.model.vocab_size or tokenizers.vocabulary_size(self.tokenizer)
        try:
            model = allowed(config.model, self.trust)
        except ValueError:  # code of a package that is not trusted is not run for a number
            return math.nan
        with torch.device("meta"):
            net = instantiate(model)
        return net.operations_per_token if isinstance(net, Network) else math.nan

    # -- starting and finishing -------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder against a second process.

        Raises:
            ValueError: another process is training in it, or its file system does not support locks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            acquire(lock, timeout=0)
        except Timeout as error:
            raise ValueError(
                f"another process is training in {self.folder}. (For several processes in one run, let Lightning start "
                "them: trainer=ddp, without torchrun or srun.)"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: DictConfig, overrides: list[str], overwrite: bool, sweep: Path | None = None) -> DictConfig:
        """Prepare the folder for a start or a resumption; returns the configuration to train.

        Args:
            config: as composed.
            overrides: what it was composed from.
            overwrite: whether to delete what is there.
            sweep: folder of the sweep that the run belongs to.

        Raises:
            ValueError: it holds a run of another configuration; the message names the keys that differ.
        """
        if overwrite:
            self._clear()
        if (self.folder / "config.yaml").exists() and not self._failed_at_once:
            config = self.recorded.continued(config)
            require_same(str(self.folder), self.recorded, config)
        else:
            self._require_nothing_left()
            config = decided(config, sweep)
            write_atomically(self.folder / "overrides.yaml", OmegaConf.to_yaml(overrides))
            write_atomically(self.folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        self.folder.joinpath("failure.json").unlink(missing_ok=True)
        write_atomically(self.folder / START, OmegaConf.to_yaml(config, resolve=True))
        append_line(self.folder / "environment.jsonl", environment(overrides))
        return config

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, which marks the run as finished."""
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=2))
        self.folder.joinpath("progress.json").unlink(missing_ok=True)

    def fail(self, error: BaseException) -> None:
        """Record why this try failed."""
        trace = "".join(traceback.format_exception(error))
        root = root_cause(error)
        report = {"error": f"{type(root).__name__}: {root}", "traceback": trace}
        write_atomically(self.folder / "failure.json", json.dumps(report, indent=2))

    @property
    def _failed_at_once(self) -> bool:
        """Whether the run failed before writing anything that another configuration would spoil."""
        begun = any((self.folder / name).exists() for name in ("metrics.jsonl", "checkpoints"))
        return self.status == "failed" and not begun

    def _require_nothing_left(self) -> None:
        if (self.folder / "summary.json").exists():
            raise ValueError(
                f"{self.folder} has a summary.json, but no config.yaml that says of which run. Put it back, give this "
                "run another name (name=...), or set overwrite=true to start again in its place."
            )

    def _clear(self) -> None:
        for path in (self.folder / name for name in OWN):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _load(module: "torch.nn.Module", name: str, path: Path) -> None:
    """Load the part of a checkpoint under ``name`` into a module."""
    state, prefix = read_checkpoint(path)["state_dict"], f"{name}."
    try:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    except RuntimeError as error:
        raise ValueError(f"{path} was made by another model than is configured: {error}") from error


def require_same(
    folder: str, there: Recorded, wanted: DictConfig, instead: str = "overwrite=true to start again in its place"
) -> None:
    """Check that a folder's run matches what is to be trained in it; ``instead`` says how to discard the former.

    Raises:
        ValueError: they differ; the message names the keys.
    """
    if differences := there.differences(wanted):
        lines = [f"  {key}: {old} there, {new} wanted" for key, (old, new) in differences.items()]
        raise ValueError(
            "\n".join([f"{folder} holds a run of another configuration:", *lines])
            + f"\nUse another name (name=...), or {instead}."
            + (f" To train it further: name=... init_from={folder}" if "trainer.max_steps" in differences else "")
        )


def find(pattern: str | Path) -> list[Run]:
    """The runs at or below a folder, in alphabetical order.

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


def environment(overrides: list[str]) -> dict[str, Any]:
    """What a result depends on besides its configuration."""
    import torch

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
    """The commit of the running code, with ``-dirty`` if it was modified; ``unknown`` outside a checkout.

    $TTI_COMMIT overrides it for code shipped from a checkout to another machine.
    """
    if "TTI_COMMIT" in os.environ:
        return os.environ["TTI_COMMIT"]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match", "nothing"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
