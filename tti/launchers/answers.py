"""Distinguishes Modal's answers from errors in asking: a job has ended only if Modal says so."""

from collections.abc import Iterator
from contextlib import contextmanager

from modal import exception

ABSENT = (FileNotFoundError, exception.NotFoundError)  # a volume's answers
ENDS = (  # a call's answers, besides errors raised by its container
    exception.OutputExpiredError,
    exception.FunctionTimeoutError,
    exception.RemoteError,
    exception.InternalFailure,
    exception.ExecutionError,
    exception.DeserializationError,
)


class NoAnswerError(Exception):
    """Modal did not answer: the machine is offline, a rate limit applies, the token is refused, or the service fails.

    This says nothing about the state of any job.
    """


@contextmanager
def asking(*answers: type[Exception]) -> Iterator[None]:
    """Ask Modal for something.

    Args:
        answers: errors that are answers to this question, and are raised unchanged. So are Python's own errors except
            OSError: a container raises them, asking does not.

    Raises:
        NoAnswerError: for every other error.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (*answers, NoAnswerError)) or _of_python(error):
            raise
        raise NoAnswerError(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _of_python(error: Exception) -> bool:
    return type(error).__module__ == "builtins" and not isinstance(error, OSError)
