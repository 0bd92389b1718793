"""The options of the Modal launcher: ``conf/hydra/launcher/modal.yaml`` as an object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import OmegaConf

from tti.schema import check


@dataclass(frozen=True)
class Options:
    """See the comments in the YAML. Prices are dollars per hour, for one GPU, core or GiB; throughput is per GPU.

    Raises:
        ValueError: a value violates ``tti/schema.yaml``.
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
        check(OmegaConf.create({"hydra": {"launcher": vars(self)}}))

    @property
    def gpu_kind(self) -> str:
        """``A100-40GB`` for ``A100-40GB:2``."""
        return self.gpu.partition(":")[0]

    @property
    def gpus(self) -> int:
        """GPUs per job."""
        return int(self.gpu.partition(":")[2] or 1)

    @property
    def price(self) -> float:
        """Dollars per hour of one job."""
        gpu = self.prices[self.gpu_kind] * self.gpus
        return gpu + self.cpu * self.price_per_core + self.memory_gib * self.price_per_gib
