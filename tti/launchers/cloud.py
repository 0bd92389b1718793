"""Modal as the rest of this package sees it: calls that are made and polled, and a volume that is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import modal
from modal import exception

from tti.launchers import source, volume
from tti.launchers.answers import ABSENT, ENDS, NoAnswerError, asking
from tti.launchers.options import Options
from tti.runs import commit


@dataclass(frozen=True)
class Outcome:
    """What is known about a call.

    ``waiting`` with an ``error``: Modal did not answer. ``stopped``: cancelled. ``expired``: its end has been
    forgotten.
    """

    status: Literal["waiting", "finished", "failed", "stopped", "expired"]
    error: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Cloud:
    """The parts of Modal that a sweep needs: the SDK's objects, or their substitutes in a test.

    All methods except ``outcome`` raise a ``NoAnswerError`` if Modal does not answer.

    Args:
        app: name under which this machine's code is deployed.
        deploy: makes ``function`` callable.
        function: ``app.train`` with the sweep's options.
        call_of: a call's handle from its id.
        data, checkpoints: the volumes.
        has_secret: whether the account has a secret of this name.
    """

    app: str
    deploy: Callable[[], None]
    function: Any
    call_of: Callable[[str], Any]
    data: Any
    checkpoints: Any
    has_secret: Callable[[str], bool]

    def spawn(self, overrides: Sequence[str], folder: str) -> str:
        """Start a job; returns the id of its call."""
        origin = {"source": source.digest(), "commit": commit()}
        with asking():
            return str(self.function.spawn(list(overrides), folder, origin).object_id)

    def outcome(self, call: str) -> Outcome:
        """The outcome of a call, without waiting for it."""
        try:
            with asking(*ENDS, TimeoutError):
                answer = self.call_of(call).get(timeout=0)
        except TimeoutError:
            return Outcome("waiting")
        except NoAnswerError as error:
            return Outcome("waiting", str(error))
        except exception.OutputExpiredError:
            return Outcome("expired", "Modal has forgotten how it ended, more than 7 days ago")
        except exception.FunctionTimeoutError:
            return Outcome("failed", "stopped by its time limit, hydra.launcher.timeout_hours, at every try")
        except exception.RemoteError as error:
            return Outcome("failed" if str(error) else "stopped", f"stopped at Modal: {str(error) or 'cancelled'}")
        except Exception as error:  # whatever ended the container
            return Outcome("failed", f"{type(error).__name__}: {error}")
        return Outcome(answer["status"], answer["error"], answer["traceback"])

    def cancel(self, call: str) -> None:
        """Cancel a call."""
        with asking():
            self.call_of(call).cancel()

    def read(self, path: str) -> bytes | None:
        """A file of the checkpoints' volume, or None if it does not exist."""
        return volume.read(self.checkpoints, path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file to the checkpoints' volume."""
        volume.write(self.checkpoints, path, content)

    def has_data(self, path: str) -> bool:
        """Whether the data volume has a file or folder."""
        try:
            with asking(*ABSENT):
                return bool(self.data.listdir(path))
        except ABSENT:
            return False

    def fetch(self, run: str, to: Path, leave: Sequence[str]) -> None:
        """Copy a run folder here (``volume.fetch_run``)."""
        volume.fetch_run(self.checkpoints, run, to, leave)


def connect(options: Options) -> Cloud:
    """Connect to the user's Modal account.

    Raises:
        ValueError: this machine has no account, or it is refused; or Modal cannot be reached.
    """
    from tti.launchers import app  # defines image and volumes

    try:
        with asking(exception.AuthError):
            modal.Client.from_env().hello()
    except exception.AuthError as error:
        raise ValueError(
            f"Modal knows no account of this machine ({error}). Run `modal setup` once, or set MODAL_TOKEN_ID and "
            "MODAL_TOKEN_SECRET; without an account: hydra/launcher=joblib, or hydra.launcher.dry_run=true"
        ) from error
    except NoAnswerError as error:
        raise ValueError(f"Modal cannot be reached ({error}); nothing was started") from error
    name = f"{options.app}-{source.digest()}"
    function = modal.Function.from_name(name, "train").with_options(
        gpu=options.gpu,
        cpu=options.cpu,
        memory=round(options.memory_gib * 1024),
        timeout=round(options.timeout_hours * 3600),
        retries=modal.Retries(max_retries=options.retries, initial_delay=0.0),
        max_containers=options.max_containers,
        env=dict(app.threads(options.cpu)),
        secrets=[modal.Secret.from_name(secret) for secret in options.secrets or ()],
    )

    def deploy() -> None:
        try:
            with asking(exception.RemoteError, exception.InvalidError), modal.enable_output():
                app.app.deploy(name=name)
        except (exception.RemoteError, exception.InvalidError) as error:
            raise ValueError(
                f"Modal could not make {name}, above all its image: {error}. No job was started"
            ) from error

    return Cloud(name, deploy, function, modal.FunctionCall.from_id, app.data, app.checkpoints, _has_secret)


def _has_secret(name: str) -> bool:
    try:
        with asking(*ABSENT):
            modal.Secret.from_name(name).hydrate()
    except ABSENT:
        return False
    return True
