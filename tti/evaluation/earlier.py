"""Conversion of the settings of evaluations by earlier versions into today's form."""

import re
from collections.abc import Mapping
from typing import Any

SUBJECTS = "subjects"  # in a part's YAML: the subjects that it applies to, not a setting of the part itself
BLOCKS = re.compile(r"^\*?blocks\.\*")  # the encoder's blocks are among the sites by default; they were not always
OF_THE_KIND = ("_target_", "kind")


def as_today(settings: Any) -> Any:
    """Settings without ``subjects`` at any depth, with sparsities as settings of their own, and an encoder's blocks."""
    if isinstance(settings, list):
        return [as_today(each) for each in settings]
    if isinstance(settings, str):
        return BLOCKS.sub("*blocks.*", settings)
    if not isinstance(settings, Mapping):
        return settings
    kept = {key: as_today(value) for key, value in settings.items() if key != SUBJECTS}
    return _beside(kept) if "kinds" in kept else kept


def _beside(settings: dict[str, Any]) -> dict[str, Any]:
    """``kinds: {topk: {k: [8, 32]}}`` as ``k: [8, 32]``, unless kinds with the same argument had different values."""
    by_argument: dict[str, Any] = {}
    for name in sorted(settings["kinds"], key=settings["kind"].__contains__):  # kinds that were trained take precedence
        by_argument |= {key: value for key, value in settings["kinds"][name].items() if key not in OF_THE_KIND}
    trained = [settings["kinds"][name].items() for name in settings["kind"]]
    if any(by_argument.get(key, value) != value for items in trained for key, value in items):
        return settings
    return {key: value for key, value in settings.items() if key != "kinds"} | by_argument
