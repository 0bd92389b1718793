"""The precision of a training on a CPU: decided once, by how fast the CPU multiplies, and kept with the run.

``trainer.precision=auto`` is a question; a run's own configuration has the answer. A resumed run keeps it on any
machine, and so do all runs of a sweep: the first one decides, and writes the answer into the sweep's folder.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from tti.configuration import AUTO
from tti.durable import acquire, write_atomically

if TYPE_CHECKING:
    import torch

log = logging.getLogger("tti.train")
PAYS = 1.5  # a step makes other passes too, so products that are hardly faster in bfloat16 do not pay
TRIES, SIZE = 3, 384  # of the products that are timed; half a second where bfloat16 is emulated
ANSWER = "precision.yaml"  # in a sweep's folder


def decided(config: DictConfig, sweep: Path | None = None) -> DictConfig:
    """A training's configuration with a definite ``trainer.precision``; says in the log which, and why.

    Args:
        config: of the training.
        sweep: the folder of the sweep that it belongs to, whose runs share one precision.
    """
    if OmegaConf.select(config, "trainer.precision") != AUTO:
        return config
    answer = _of_this_cpu() if sweep is None else _of_the_sweep(sweep)
    log.info("trainer.precision=%s: %s", answer["precision"], answer["since"])
    config = config.copy()
    config.trainer.precision = answer["precision"]
    return config


def _of_this_cpu() -> dict[str, str]:
    ratio = speed_up()
    return {
        "precision": "bf16-mixed" if ratio >= PAYS else "32-true",
        "since": f"the CPU multiplies {ratio:.2g} times as fast in bfloat16 as in float32, and from {PAYS} on it pays",
    }


def _of_the_sweep(folder: Path) -> dict[str, str]:
    """The answer in the sweep's folder, where the first run that asks writes its own."""
    path = folder / ANSWER
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{ANSWER}.lock")
    acquire(lock)
    try:
        if not path.exists():
            own = _of_earlier_runs(folder) or _of_this_cpu()
            said = {**own, "since": f"{own['since']}. {path} keeps this for all runs of the sweep"}
            write_atomically(path, OmegaConf.to_yaml(said))
        return {str(key): str(value) for key, value in OmegaConf.load(path).items()}
    finally:
        lock.release()


def _of_earlier_runs(folder: Path) -> dict[str, str] | None:
    """That of the runs already there, as in a sweep begun before precisions were decided."""
    for path in sorted(folder.glob("*/*/config.yaml")):
        if precision := OmegaConf.select(OmegaConf.load(path), "trainer.precision"):
            return {"precision": str(precision), "since": f"that of {path.parent}"}
    return None


def speed_up() -> float:
    """How many times as fast this CPU multiplies matrices in bfloat16 as in float32."""
    import torch  # a finished run need not wait seconds for it

    single, half = ([_seconds(dtype) for _ in range(TRIES)] for dtype in (torch.float32, torch.bfloat16))
    return min(single) / min(half)


def _seconds(dtype: "torch.dtype") -> float:
    """CPU seconds of one product, which other work on the machine does not lengthen."""
    import torch

    factor = torch.ones(SIZE, SIZE, dtype=dtype)
    began = time.process_time()
    torch.mm(factor, factor)
    return time.process_time() - began
