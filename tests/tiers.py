"""Which tests run when: `make quick` the pure ones, `make test` all but those marked nightly, `make nightly` these."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def nightly_but(daily: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """The cases of a parametrised test: those that are ``daily``, and the others by `make nightly` only."""
    return [case if case in daily else _nightly(case) for case in cases]


def _nightly(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.nightly)
