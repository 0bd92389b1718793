"""What can be asked of Modal: ``conf/hydra/launcher/modal.yaml``, as an object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOUNDS = {
    "cpu": (0.125, 64),
    "memory_gib": (0.125, 336),
    "timeout_hours": (1 / 3600, 24),
    "retries": (0, 10),
    "max_containers": (1, 1000),
    "look_every": (0, 3600),
    "patience": (1, 1e6),
    "tokens_per_second": (1, 1e9),
    "tokens_per_story": (1, 1e6),
}


@dataclass(frozen=True)
class Options:
    """See the comments in the YAML. Prices are dollars an hour, of one GPU, core or GiB; throughput is of one GPU.

    Raises:
        ValueError: a number is none, or outside of what Modal allows.
    """

    app: str
    gpu: str
    cpu: float
    memory_gib: float
    timeout_hours: float
    retries: int
    max_containers: int
    secrets: Sequence[str] | None
    leave: Sequence[str]
    look_every: float
    patience: int
    tokens_per_second: float
    tokens_per_story: float
    prices: Mapping[str, float]
    price_per_core: float
    price_per_gib: float
    dry_run: bool
    cancel: bool

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"hydra.launcher.{name}={value} must be a number between {least:g} and {most:g}")

    @property
    def gpu_kind(self) -> str:
        """``A100-40GB`` of ``A100-40GB:2``."""
        return self.gpu.partition(":")[0]

    @property
    def gpus(self) -> int:
        """GPUs of one job."""
        return int(self.gpu.partition(":")[2] or 1)

    @property
    def price(self) -> float:
        """Dollars an hour of one job."""
        gpu = self.prices[self.gpu_kind] * self.gpus
        return gpu + self.cpu * self.price_per_core + self.memory_gib * self.price_per_gib
