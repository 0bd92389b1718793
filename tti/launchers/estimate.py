"""The estimate of a sweep before launch: GPUs, hours, dollars, and the worst case."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tti.launchers.job import Job
from tti.launchers.options import Options


@dataclass(frozen=True)
class Estimate:
    """An estimate. Hours are container hours, without validation, start-up and fetching."""

    jobs: int
    at_once: int
    gpu: str
    job_hours: tuple[float, ...]
    price: float
    worst_hours: float
    worst_cost: float
    assumption: str

    @property
    def hours(self) -> float:
        """Hours until the last job is done: jobs fill the containers one after another, the longest first."""
        ends = [0.0] * max(1, self.at_once)
        for job in sorted(self.job_hours, reverse=True):
            soonest = ends.index(min(ends))
            ends[soonest] += job
        return max(ends)

    @property
    def cost(self) -> float:
        """Cost in dollars."""
        return sum(self.job_hours) * self.price

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.jobs} jobs on {self.gpu}, {self.at_once} at once",
                f"about {self.hours:.1f} h and ${self.cost:.2f} ({sum(self.job_hours):.1f} h of containers at "
                f"${self.price:.2f}), if {self.assumption}",
                f"at worst ${self.worst_cost:,.0f}: every job hangs until its time limit at every try "
                f"({self.worst_hours:.0f} h of containers); hydra.launcher.timeout_hours and .retries lower it",
            ]
        )


def estimate(jobs: Sequence[Job], options: Options) -> Estimate:
    """The estimate for jobs that start at step 0, from a given throughput.

    A job's hours are steps x stories per step x tokens per story / (tokens per second x GPUs).
    """
    worst_hours = len(jobs) * (options.retries + 1) * options.timeout_hours
    return Estimate(
        jobs=len(jobs),
        at_once=min(len(jobs), options.max_containers),
        gpu=options.gpu,
        job_hours=tuple(_hours(job, options) for job in jobs),
        price=options.price,
        worst_hours=worst_hours,
        worst_cost=worst_hours * options.price,
        assumption=f"a GPU trains {options.tokens_per_second:,.0f} tokens/s (hydra.launcher.tokens_per_second) and a "
        f"story has {math.ceil(options.tokens_per_story)} tokens",
    )


def _hours(job: Job, options: Options) -> float:
    tokens = job.config.trainer.max_steps * job.config.data.stories_per_step * options.tokens_per_story
    return float(tokens / (options.tokens_per_second * options.gpus) / 3600)
