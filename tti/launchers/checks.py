"""Checks before anything is spent; each message says what to do."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from tti.configuration import Recorded, without_repetitions
from tti.data import sources
from tti.launchers.calls import Call
from tti.launchers.cloud import Cloud
from tti.launchers.job import Job
from tti.launchers.options import Options
from tti.launchers.volume import DATA
from tti.runs import require_same
from tti.trust import configuration, parse

CACHE = ("modal", "run", "scripts/modal_app.py::cache_dataset")
OF_THE_CORPUS = ("data", "experiment=")  # overrides that can change the corpus


def here(jobs: Sequence[Job], options: Options) -> None:
    """Check what this machine can tell alone.

    Raises:
        ValueError: an unknown GPU, two jobs with one folder, a folder with another configuration or with a run begun on
            this machine, or ``overwrite``.
    """
    _known_gpu(options)
    for job in jobs:
        if job.config.overwrite:
            raise ValueError(
                "overwrite=true would start a job again each time Modal restarts it. Delete what is there instead: "
                f"{_delete(job)} and the folder {job.folder}"
            )
        if (job.folder / "config.yaml").exists():
            require_same(str(job.folder), job.run.recorded, job.run.recorded.continued(job.config))
        _not_begun_here(job)
    twice = [folder for folder, count in Counter(job.remote for job in jobs).items() if count > 1]
    if twice:
        raise ValueError(f"several jobs of this sweep have the folder {twice[0]}: give their variants names")


def there(jobs: Sequence[Job], options: Options, cloud: Cloud) -> None:
    """Check what only the account can tell.

    Raises:
        ValueError: the volume has another configuration in a job's folder, or lacks the data; a secret is missing; or a
            running job was started with another configuration, or by an unknown call.
    """
    for job in jobs:
        _same_on_the_volume(job, cloud)
        _same_under_way(job)
        _no_unknown_call(job, cloud)
    for job in {str(job.config.data.corpus): job for job in jobs}.values():  # one per corpus
        _has_data(job, cloud)
    _has_secrets(options, cloud)


def _known_gpu(options: Options) -> None:
    count = options.gpu.partition(":")[2] or "1"
    if options.gpu_kind not in options.prices or not count.isdigit() or not 1 <= int(count) <= 8:
        raise ValueError(
            f"hydra.launcher.gpu={options.gpu} has no price in hydra.launcher.prices, which has "
            f"{', '.join(options.prices)}; several for trainer=ddp, as in {next(iter(options.prices))}:2"
        )


def _not_begun_here(job: Job) -> None:
    status = job.run.status
    if status in ("unfinished", "failed") and not job.calls.any and job.run.last_checkpoint:
        raise ValueError(
            f"{job.folder} holds a run that was begun on this machine and is {status}. Finish it here with another "
            "launcher, move it away, or use another name (name=...)"
        )


def to_be_started(absent: Sequence[Job], calls: Mapping[Job, Call], cloud: Cloud) -> None:
    """Check that missing jobs may be started alongside running jobs of the sweep.

    Raises:
        ValueError: the running jobs use different code.
    """
    other = {call.app: job for job, call in calls.items() if call.app != cloud.app}
    if absent and other:
        app, job = next(iter(other.items()))
        raise ValueError(
            f"the job of {job.folder} is running with other code than this machine's ({app}, here {cloud.app}), and "
            f"{len(absent)} jobs of this sweep have not been started. Let it finish with the code that started it, "
            "or stop it: hydra.launcher.cancel=true"
        )


def _same_on_the_volume(job: Job, cloud: Cloud) -> None:
    config, overrides = (cloud.read(f"{job.remote}/{name}.yaml") for name in ("config", "overrides"))
    if config is not None:
        where = f"tti-checkpoints:{job.remote}"
        given = None if overrides is None else parse(overrides, where)
        there = Recorded(without_repetitions(configuration(parse(config, where), where)), given)
        require_same(where, there, there.continued(job.config), f"delete it: {_delete(job)}")


def _same_under_way(job: Job) -> None:
    for call in job.calls.all_open:
        if call.identity != job.identity:
            raise ValueError(
                f"{job.folder} belongs to a job of another configuration, started {call.at} and not known to have "
                "ended. Use another name (name=...), or stop that job with the command that started it and "
                "hydra.launcher.cancel=true"
            )


def _no_unknown_call(job: Job, cloud: Cloud) -> None:
    begun = f"{job.remote}/progress.json"
    if not job.calls.any and cloud.read(begun) is not None and cloud.read(f"{job.remote}/summary.json") is None:
        raise ValueError(
            f"tti-checkpoints:{job.remote} holds a run that was begun by an unknown call and may be running. "
            "`modal app list` shows what runs; `modal app stop APP` stops all jobs of an app. If nothing runs, this "
            f"job can start after `modal volume rm tti-checkpoints {begun}`"
        )


def _delete(job: Job) -> str:
    return f"`modal volume rm -r tti-checkpoints {job.remote}`"


def _has_data(job: Job, cloud: Cloud) -> None:
    files = _files(job.config.data.corpus)
    for key, path in files:
        if not (path.startswith(f"{DATA}/") and cloud.has_data(path.removeprefix(f"{DATA}/"))):
            raise ValueError(
                f"data.corpus.{key}={path} is not a file of Modal's volume. Put it there, `modal volume put tti-data "
                f"{path} /`, and set data.corpus.{key}={DATA}/{Path(path).name}"
            )
    if files:
        return  # the first job tokenizes them: their cache key depends on the remote files
    corpus = instantiate(job.config.data.corpus)
    absent = [name for name in (corpus.folder(split).name for split in corpus.splits) if not cloud.has_data(name)]
    if absent:
        given = [override for override in job.overrides if override.startswith(OF_THE_CORPUS)]
        raise ValueError(
            f"the volume tti-data has no tokenized {', '.join(absent)}. Create it once, on a machine without GPU:\n"
            f"  {shlex.join([*CACHE, *given])}"
        )


def _files(corpus: Any) -> list[tuple[str, str]]:
    """The files that a text corpus names by path, as opposed to Hub datasets or tokenizers."""
    splits = ("train", "validation", "test")
    files = [(key, source) for key in splits for source in _sources(corpus.get(key)) if sources.is_local(source)]
    tokenizer = str(corpus.get("tokenizer", ""))
    by_path = tokenizer.startswith(("/", ".", "~")) or (tokenizer != "" and Path(tokenizer).is_dir())
    return files + [("tokenizer", tokenizer)] * by_path


def _sources(given: Any) -> list[str]:
    """One or several sources; empty for a corpus without texts."""
    return [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []


def _has_secrets(options: Options, cloud: Cloud) -> None:
    for name in options.secrets or ():
        if not cloud.has_secret(name):
            raise ValueError(
                f"the Modal account has no secret {name}: run `modal secret create {name} WANDB_API_KEY=...` once, "
                "or use logger=wandb_offline and upload the runs from here afterwards"
            )
