"""`hydra/launcher=modal`: the jobs of a sweep on Modal's GPUs, implemented in `tti.launchers`, which is imported on
use.

Hydra imports this module at every start, whatever the launcher.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ModalLauncher(Launcher):
    """A launcher whose options are those of `tti.launchers.options.Options`."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns one `JobReturn` each, in order."""
        from hydra_plugins.tti_modal._launch import launch

        assert self.config is not None
        assert self.hydra_context is not None
        return launch(self.config, self.hydra_context.config_loader, job_overrides, self.options)
