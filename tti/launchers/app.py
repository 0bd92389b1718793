"""The Modal app: image, volumes, and thin functions around ``tti.launchers.remote``."""

import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import modal

from tti.launchers import remote, source
from tti.launchers.volume import CHECKPOINTS, DATA

SOURCE = "/root"  # on Python's path in Modal's containers
HOUR = 3600

data = modal.Volume.from_name("tti-data", create_if_missing=True)
checkpoints = modal.Volume.from_name("tti-checkpoints", create_if_missing=True)
volumes: dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount] = {DATA: data, CHECKPOINTS: checkpoints}


def threads(cores: float) -> dict[str, str]:
    """Environment variables that limit torch and its compiler to the requested cores: a container sees its host's."""
    return dict.fromkeys(("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), str(max(1, round(cores))))


def _image() -> modal.Image:
    image = modal.Image.debian_slim(python_version=f"{sys.version_info.major}.{sys.version_info.minor}")
    image = image.apt_install("git", "gcc", "libc6-dev")  # torch.compile needs a C compiler
    image = image.uv_pip_install(*source.requirements())
    image = image.env({"TTI_CACHE": DATA, remote.HOME: CHECKPOINTS, "TTI_CONF": f"{SOURCE}/conf", **threads(4)})
    for name, folder in source.folders().items():
        image = image.add_local_dir(folder, f"{SOURCE}/{name}", ignore=source.left_out)
    return image


# In a container the image exists already, and its definition is not needed.
image = _image() if modal.is_local() else modal.Image.debian_slim()
app = modal.App("tti", image=image, include_source=False)


@app.function(
    gpu="A100-40GB",
    cpu=4,
    memory=16 * 1024,
    volumes=volumes,
    timeout=4 * HOUR,
    retries=modal.Retries(max_retries=3, initial_delay=0.0),
    single_use_containers=True,
)
def train(overrides: list[str], folder: str, origin: dict[str, str]) -> dict[str, Any]:
    """One run: ``remote.train``."""
    return remote.train(overrides, folder, origin, _commit(checkpoints))


@app.function(cpu=8, memory=32 * 1024, volumes=volumes, timeout=6 * HOUR)
def cache(overrides: list[str]) -> dict[str, int]:
    """Tokenize a corpus: ``remote.cache``."""
    return remote.cache(overrides, _commit(data))


@app.function(gpu="A100-40GB", cpu=4, memory=32 * 1024, volumes=volumes, timeout=6 * HOUR)
def evaluate(arguments: list[str]) -> int:
    """``python -m tti.evaluate`` on runs of the volume."""
    return remote.call("tti.evaluate", arguments, _commit(checkpoints))


@app.function(cpu=2, memory=8 * 1024, volumes=volumes, timeout=HOUR)
def report(arguments: list[str]) -> int:
    """``python -m tti.report`` on runs of the volume."""
    return remote.call("tti.report", arguments, _commit(checkpoints))


def _commit(volume: modal.Volume) -> Callable[[], None]:
    return (lambda: None) if modal.is_local() else volume.commit
