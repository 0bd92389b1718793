"""Modal without an account: volumes as folders, calls as lists of answers, and Modal's own exceptions."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from modal import exception
from omegaconf import DictConfig, OmegaConf

from tti.configuration import as_on_a_gpu
from tti.launchers import source
from tti.launchers.cloud import Cloud
from tti.launchers.job import Job
from tti.launchers.options import Options

WAITING = TimeoutError()  # raised by `get(timeout=0)` before the call has ended
SMALL = ("experiment=demo", "hydra.mode=RUN", "model.d_model=32", "trainer.max_steps=100", "name=small")


class Volume:
    """A folder with the interface of a Modal volume. ``trouble(path)`` is the error raised when a path is requested."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trouble: Callable[[str], Exception | None] = lambda path: None
        root.mkdir(parents=True)

    def read_file(self, path: str) -> Iterator[bytes]:
        if error := self.trouble(path):
            raise error
        with (self.root / path).open("rb") as file:
            while piece := file.read(64):
                yield piece

    @contextmanager
    def batch_upload(self, *, force: bool) -> Iterator[SimpleNamespace]:
        def put_file(content: IO[bytes], path: str) -> None:
            if error := self.trouble(path):
                raise error
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content.read())

        assert force
        yield SimpleNamespace(put_file=put_file)

    def listdir(self, path: str, *, recursive: bool = False) -> list[SimpleNamespace]:
        if error := self.trouble(path):
            raise error
        folder = self.root / path
        if not folder.exists():
            raise exception.NotFoundError(path)
        found = folder.rglob("*") if recursive else folder.glob("*")
        kinds = {True: SimpleNamespace(name="FILE"), False: SimpleNamespace(name="DIRECTORY")}
        return [SimpleNamespace(path=str(p.relative_to(self.root)), type=kinds[p.is_file()]) for p in found]


class Modal:
    """An account. ``answers[variant]`` are the answers of a job's call, one per poll; the last is repeated."""

    def __init__(self, root: Path) -> None:
        self.data, self.checkpoints = Volume(root / "data"), Volume(root / "checkpoints")
        self.answers: dict[str, list[Any]] = {}
        self.secrets: set[str] = set()
        self.spawned: list[str] = []
        self.cancelled: list[str] = []
        self.deployed = 0
        self.app = "tti-0123456789ab"

    def cloud(self, _: Options | None = None) -> Cloud:
        function = SimpleNamespace(spawn=self._spawn)
        return Cloud(
            self.app, self._deploy, function, self._call_of, self.data, self.checkpoints, self.secrets.__contains__
        )

    def finish(self, job: Job, loss: float = 2.5) -> dict[str, Any]:
        """Leave the files of a finished run on the volume, and return the call's answer."""
        folder = self.leave(job)
        metrics = {"val/loss": loss, "val/perplexity": 12.2}
        summary = {"steps": 100, "tokens_per_second": 9.0, "metrics": metrics}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "checkpoints").mkdir(exist_ok=True)
        for name in ("last", "best"):
            (folder / f"checkpoints/{name}.ckpt").write_bytes(b"weights" * 50)
        return {"status": "finished", "result": loss, "error": "", "traceback": ""}

    def leave(self, job: Job) -> Path:
        """Leave the files of a run that has begun."""
        folder = self.checkpoints.root / job.remote
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(job.config))
        (folder / "overrides.yaml").write_text("[]")
        (folder / ".lock").touch()
        return folder

    def progress(self, job: Job, **figures: float) -> None:
        far = {"step": 40, "max_steps": 100, "seconds_left": 90, "train/loss": 3.0, "train/tokens_per_second": 1e5}
        (self.leave(job) / "progress.json").write_text(json.dumps(far | figures))

    def _deploy(self) -> None:
        self.deployed += 1

    def _spawn(self, overrides: list[str], folder: str, origin: dict[str, str]) -> SimpleNamespace:
        assert {"source", "commit"} == origin.keys()
        assert all(isinstance(override, str) for override in overrides)
        self.spawned.append(folder)
        return SimpleNamespace(object_id=f"fc-{len(self.spawned)}:{folder}")

    def _call_of(self, id: str) -> SimpleNamespace:
        variant = Path(id.partition(":")[2]).parts[-2]

        def get(timeout: float) -> Any:
            assert timeout == 0
            answers = self.answers[variant]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer

        return SimpleNamespace(get=get, cancel=lambda: self.cancelled.append(id))


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modal:
    """An account whose data volume has every corpus that is requested."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    account = Modal(tmp_path / "modal")
    monkeypatch.setattr(account.data, "listdir", lambda path: ["manifest.json"])
    return account


@pytest.fixture(scope="session")
def resolved(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """A configuration as resolved on a machine with a GPU."""

    def made(*overrides: str) -> DictConfig:
        with as_on_a_gpu():
            return DictConfig(OmegaConf.create(OmegaConf.to_container(compose(*overrides), resolve=True)))

    return made


@pytest.fixture(scope="session")
def make_jobs(resolved: Callable[..., DictConfig]) -> Callable[..., list[Job]]:
    """``make_jobs("a", "b")``: small jobs with these variants' names."""

    def made(*variants: str, more: tuple[str, ...] = ()) -> list[Job]:
        each = [(*SMALL, *more, f"variant={variant}") for variant in variants]
        return [Job(overrides, resolved(*overrides)) for overrides in each]

    return made


@pytest.fixture(scope="session")
def options(compose: Callable[..., DictConfig]) -> Callable[..., Options]:
    """The options of ``conf/hydra/launcher/modal.yaml``, without waiting between polls."""

    def made(**others: Any) -> Options:
        from tti.configuration import conf_dir

        given = OmegaConf.to_container(OmegaConf.load(Path(conf_dir(), "hydra/launcher/modal.yaml")))
        given.pop("_target_")
        return Options(**(given | {"look_every": 0} | others))

    return made


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a container, with what Modal is told to add."""
    root = tmp_path_factory.mktemp("container")
    for name, folder in source.folders().items():
        for path in folder.rglob("*"):
            if path.is_file() and not source.left_out(path.relative_to(folder)):
                target = root / name / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    return root
