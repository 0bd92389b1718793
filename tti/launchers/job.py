"""One job of a sweep that runs remotely."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from tti.configuration import identity_digest
from tti.launchers.calls import Calls
from tti.runs import Run


@dataclass(frozen=True, eq=False)
class Job:
    """``overrides``, and the ``config`` composed from them as on a machine with a GPU."""

    overrides: tuple[str, ...]
    config: DictConfig

    @property
    def folder(self) -> Path:
        """The run folder on this machine."""
        return Path(self.config.run_dir)

    @property
    def run(self) -> Run:
        """The run in that folder."""
        return Run(self.folder)

    @property
    def calls(self) -> Calls:
        """The calls that started it."""
        return Calls(self.folder)

    @property
    def remote(self) -> str:
        """The run folder on the volume: the same path, relative to the volume if it is absolute.

        Raises:
            ValueError: it leads out of the folder in which the command was started.
        """
        if ".." in self.folder.parts:
            raise ValueError(f"run_dir={self.folder} leads upwards; on Modal's volume there is nothing above")
        return str(self.folder.relative_to(self.folder.anchor))

    @property
    def name(self) -> str:
        """Its name in tables."""
        return "/".join(self.folder.parts[-2:])

    @cached_property
    def identity(self) -> str:
        """A digest of the configuration."""
        return identity_digest(self.config)
