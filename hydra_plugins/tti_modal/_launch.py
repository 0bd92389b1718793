"""Conversion of jobs between Hydra and ``tti.launchers``."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.text import Text

from tti.configuration import as_on_a_gpu, root_cause
from tti.launchers.cloud import Outcome, connect
from tti.launchers.job import Job
from tti.launchers.leave import Leave
from tti.launchers.options import Options
from tti.launchers.sweep import launch as launch_jobs
from tti.train import check


def launch(
    config: DictConfig, loader: ConfigLoader, job_overrides: Sequence[Sequence[str]], options: Mapping[str, Any]
) -> list[JobReturn]:
    """Compose the jobs, run them, and return their results to Hydra."""
    jobs = [compose(config, loader, overrides) for overrides in job_overrides]
    try:
        for job in jobs:
            _check(job)
        outcomes = launch_jobs(jobs, Options(**options), connect)
    except ValueError as error:
        Console(stderr=True).print(Text(f"error: {error}"), soft_wrap=True)
        raise Leave(1) from None
    return [_returned(job, outcomes[job]) for job in jobs]


def compose(config: DictConfig, loader: ConfigLoader, overrides: Sequence[str]) -> Job:
    """A job, resolved as on the remote machine."""
    composed = loader.load_sweep_config(config, list(overrides))
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed["hydra"]
    with as_on_a_gpu():
        resolved = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    return Job(tuple(overrides), DictConfig(resolved))


def _check(job: Job) -> None:
    """Find errors here that would end the job remotely, where it costs money."""
    try:
        with as_on_a_gpu():
            check(job.config)
    except Exception as error:
        raise ValueError(f"{job.name}: {root_cause(error)}") from error


def _returned(job: Job, outcome: Outcome) -> JobReturn:
    returned = JobReturn(overrides=list(job.overrides), cfg=job.config, status=JobStatus.COMPLETED)
    if outcome.status == "finished":
        returned.return_value = job.run.summary["metrics"]["val/loss"]
    else:
        returned.status = JobStatus.FAILED
        returned.return_value = RuntimeError(outcome.error)
    return returned
