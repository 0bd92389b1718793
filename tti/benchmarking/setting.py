"""The subject of a benchmark: a training composed from its overrides, and the stories of a few of its steps."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import hydra
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import seed_everything
from lightning.fabric import Fabric
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from tti.benchmarking.sample import Sample, sampled
from tti.configuration import conf_dir
from tti.data.module import StoryData
from tti.data.tokenizers import vocabulary_size
from tti.precision import decided
from tti.step import Batch


@dataclass
class Clockwork:
    """The attributes of a trainer that a LightningModule and a data module use, for loops without a trainer."""

    max_steps: int
    datamodule: StoryData
    global_step: int = 0
    world_size: int = 1
    global_rank: int = 0
    accumulate_grad_batches: int = 1


@dataclass(frozen=True)
class Setting:
    """A training, and the part of it that is run.

    Args:
        overrides: of ``python -m tti.train``.
        stories: stories of a benchmarked step, chosen from the ``data.stories_per_step`` of a real one.
        steps: number of different optimizer steps, which take turns.
        threads: CPU threads.
    """

    overrides: tuple[str, ...]
    stories: int
    steps: int
    threads: int

    def having(self, *overrides: str) -> "Setting":
        """The same setting with further overrides. An option of a group takes back what was set in that group before:
        ``data=grammar_tasks`` has no tokenizer to be set."""
        chosen = {f"{group.replace('/', '.')}." for group in map(_key, overrides) if "." not in group}
        kept = (each for each in self.overrides if not any(_key(each).startswith(group) for group in chosen))
        return replace(self, overrides=(*kept, *overrides))

    @cached_property
    def config(self) -> DictConfig:
        """The composed training; the vocabulary size is the tokenizer's, and the precision the CPU's, unless set."""
        config = decided(self._composed.copy())
        config.model.vocab_size = config.model.vocab_size or vocabulary_size(self.data.tokenizer)
        return config

    @cached_property
    def _composed(self) -> DictConfig:
        return composed(self.overrides)

    @cached_property
    def data(self) -> StoryData:
        """The data module, with its caches built."""
        data: StoryData = instantiate(self._composed.data)
        data.prepare_data()
        return data

    @cached_property
    def fabric(self) -> Fabric:
        """The device and the precision of the training."""
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # it reports that bf16 is used
        trainer = self.config.trainer
        return Fabric(accelerator=trainer.accelerator, devices=1, precision=trainer.precision)

    @cached_property
    def samples(self) -> list[Sample]:
        """The steps that are run, on the device."""
        taken = sampled(self.loader(), self.steps, self.stories, self.data.max_length)
        return [sample.to(self.fabric.device) for sample in taken]

    def loader(self) -> DataLoader[Batch]:
        """The batches of the training, from its beginning."""
        self.data.trainer = Clockwork(self.config.trainer.max_steps, self.data)  # type: ignore[assignment]
        return self.data.train_dataloader()

    def seed(self) -> None:
        """Set the number of threads and the random state with which a training begins."""
        torch.set_num_threads(self.threads)
        seed_everything(self.config.seed, verbose=False)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def composed(overrides: Sequence[str], command: str = "train") -> DictConfig:
    """The configuration of ``python -m tti.train`` or another command; also works inside another Hydra command."""
    hydra_of_command = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            own = ["variant=benchmark"] if command == "train" else []
            return hydra.compose(command, [*own, *overrides])
    finally:
        GlobalHydra.instance().hydra = hydra_of_command
