"""Run folders as a report reads them: text that somebody else may have written, so nothing in it is resolved."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from tokenizers import Tokenizer

from tti.runs import Run

KINDS = {"GrammarCorpus": "grammar", "GrammarTasks": "tasks", "Sentences": "sentences"}


class Key(NamedTuple):
    """The identity of a run in a report."""

    experiment: str
    variant: str
    seed: int


@dataclass(frozen=True)
class Given:
    """A run folder. Its configuration and overrides stay as written: ``${oc.env:HOME}`` is those thirteen characters.

    Raises:
        ValueError: on first use, if ``config.yaml`` does not give variant and seed.
    """

    folder: Path

    @cached_property
    def run(self) -> Run:
        """The run, for everything except configuration and overrides."""
        return Run(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration."""
        found = _plain(self.folder / "config.yaml")
        return found if isinstance(found, dict) else {}

    @cached_property
    def overrides(self) -> tuple[str, ...]:
        """The overrides that the run was started with, without Hydra's quoting."""
        return tuple(str(override).replace("\\", "") for override in _plain(self.folder / "overrides.yaml") or ())

    @cached_property
    def key(self) -> Key:
        """Experiment (with its ``name``, as in the folder), variant and seed."""
        try:
            words = (self.config.get("experiment", "default"), self.config.get("name"))
            return Key("-".join(str(word) for word in words if word), str(self.config["variant"]),
                       int(self.config["seed"]))  # fmt: skip
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.folder}/config.yaml does not say which variant and seed it is ({error})"
            ) from error

    @property
    def status(self) -> str:
        """The run's status."""
        return self.run.status

    @property
    def summary(self) -> dict[str, Any]:
        """The final figures."""
        return self.run.summary

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return self.run.tokenizer

    @property
    def corpus(self) -> str:
        """The kind of corpus: ``grammar``, ``tasks`` (the grammar's) or ``sentences``, whose truth is known, or
        ``text``."""
        corpus = self.config.get("data", {}).get("corpus", {})
        target = str(corpus.get("_target_", "") if isinstance(corpus, Mapping) else "")
        return KINDS.get(target.rpartition(".")[2], "text")

    @property
    def experts(self) -> int:
        """Number of experts, with shared ones, whose neurons the site ``mlp.post`` concatenates; 0 without experts."""
        model = self.config.get("model", {})
        mlp = model.get("mlp", {}) if isinstance(model, Mapping) else {}
        found = [mlp.get(name, 0) for name in ("experts", "shared")] if isinstance(mlp, Mapping) else []
        return sum(found) if all(type(each) is int and each >= 0 for each in found) else 0


def is_a_site(name: str) -> bool:
    """Whether a name can be a site's: an evaluation from elsewhere could contain any name."""
    return re.fullmatch(r"[\w.]+", name) is not None


def _plain(path: Path) -> Any:
    """YAML without resolving interpolations."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
