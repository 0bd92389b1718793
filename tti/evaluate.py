"""``python -m tti.evaluate run=FOLDER``: the common evaluation of finished runs, into their ``evaluation/`` folders."""

import glob
import hashlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tti.configuration import alternatives, conf_dir, digest, quoted
from tti.data import tokenizers
from tti.data.module import StoryData
from tti.evaluation.base import Part, View
from tti.evaluation.memory import peak_mib
from tti.evaluation.run_through import Rotation, examine, unchanged
from tti.evaluation.stories import Chunk, StorySet
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, OtherSchemaError, write
from tti.models.gpt import GPT
from tti.runs import Run, commit, find, root_cause

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
    """The evaluation of one run.

    Args:
        run: which has finished.
        config: of the command.

    Raises:
        ValueError: it has not finished, its checkpoint is missing or damaged, or its data are others by now.
    """

    def __init__(self, run: Run, config: DictConfig) -> None:
        _ = run.summary  # raises where it has not finished
        self.run, self.config = run, config
        self.device = torch.device(config.device)
        self.net = _as_gpt(run.model(config.checkpoint))
        data_config = OmegaConf.merge(run.config.data, config.data)
        self.data: StoryData = instantiate(data_config)
        self.stories = StorySet(self.data, config.split, config.tokens_per_chunk)
        packed = self.stories.packed.manifest
        if packed["tokenizer_sha256"] != tokenizers.fingerprint(run.tokenizer):
            raise ValueError(
                f"the data of {run.folder} have another tokenizer by now than the run has; give the ones that it was "
                "trained on: +data.corpus.tokenizer=..., +data.corpus.train=..."
            )
        self.of = {
            "checkpoint": config.checkpoint,
            "step": run.summary["steps"],
            "weights": digest(_digest_of_weights(self.net)),
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

    def networks(self) -> Iterator[tuple[tuple[str, ...], GPT]]:
        """The subjects asked for, by the network that they share."""
        asked = [subject for subject in VIEWS if subject in self.config.subjects]
        if shared := tuple(subject for subject in asked if subject != RANDOM_INIT):
            yield shared, self.net
        if RANDOM_INIT in asked:
            yield (RANDOM_INIT,), self._untrained()

    def evaluate(self) -> int:
        """Do what is not there yet; how many parts that was."""
        done = 0
        for subjects, net in self.networks():
            evaluations = {subject: Evaluation(self.run.folder, self.config.split, subject) for subject in subjects}
            pending = {subject: self._pending(evaluation) for subject, evaluation in evaluations.items()}
            if any(pending.values()):
                done += self._do(net.to(self.device).eval(), evaluations, pending)
        return done

    def _do(self, net: GPT, evaluations: Mapping[str, Evaluation], pending: Mapping[str, Mapping[str, Part]]) -> int:
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
        )
        failures = []
        for subject in views:
            for name, part in pending[subject].items():
                try:
                    with torch.no_grad(), part.timed(), CONSOLE.status(f"  {subject}: {name}"):
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

    def _untrained(self) -> GPT:
        config = self.run.config.copy()
        seed_everything(config.seed, verbose=False)
        config.model.vocab_size = self.net.vocab_size
        return _as_gpt(instantiate(config.model))


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


def _digest_of_weights(net: torch.nn.Module) -> str:
    state = hashlib.sha256()
    for name, weight in sorted(net.state_dict().items()):
        state.update(name.encode())
        state.update(weight.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def _as_gpt(net: torch.nn.Module) -> GPT:
    assert isinstance(net, GPT)
    return net


def shown(chunks: Iterable[Chunk], total: int) -> Iterable[Chunk]:
    """The chunks, while a bar shows how many are done."""
    return track(chunks, "  all tokens", total, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


def evaluate(config: DictConfig) -> Sequence[tuple[Run, str]]:
    """Evaluate the runs; those that could not be, each with the reason.

    Raises:
        ValueError: there are no runs, or an unknown part is asked for.
    """
    wanted_parts(config)
    unknown = [subject for subject in config.subjects if subject not in VIEWS]
    if unknown:
        raise ValueError(f"no subject {', '.join(unknown)}; there are: {', '.join(VIEWS)}")
    torch.set_num_threads(config.threads)
    failed = []
    for run in chosen_runs(str(config.run)):
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
    try:
        failed = evaluate(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {len(failed)} could not be evaluated: {', '.join(str(run.folder) for run, _ in failed)}")


if __name__ == "__main__":
    if not {"-m", "--multirun"} & set(sys.argv):
        sys.argv[1:] = quoted(sys.argv[1:], ("run",))
    try:
        main()
    except SystemExit as error:
        sys.stderr.write(alternatives(error.__context__))
        raise
