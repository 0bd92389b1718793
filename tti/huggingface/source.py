"""The source of a class as files that need neither this package nor the one that it comes from.

transformers copies the files that a remote-code file imports relatively, from one folder only. So every module of ours
that is needed becomes a file next to it: ``tti.models.mlp`` becomes ``tti_models_mlp.py``, and its imports of such
modules become relative. The files are the project's own source, with comments.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from types import ModuleType

FROM = re.compile(r"^(?P<indent>\s*)from (?P<module>[\w.]+) import", re.MULTILINE)
SHAPES = '''"""Shapes in annotations, ``Float[Tensor, "token d_model"]``, are for the reader: a tensor, here."""


class Shaped:
    """Stands for jaxtyping's types, so that jaxtyping need not be installed."""

    def __class_getitem__(cls, item):
        return item[0]


def __getattr__(name):
    return Shaped
'''


def carried(root: ModuleType, name: str, classes: Mapping[str, type]) -> dict[str, str]:
    """File name -> text: ``root`` with these classes, and all modules of ours that they need.

    Args:
        root: the module to start from.
        name: the name that it imports with ``from <module> import <class> as <name>``.
        classes: what to import instead, by the name in ``root``; with ``name``.

    Raises:
        ValueError: a module has no source (such as a class defined in an interactive session).
    """
    importing = rf"^from [\w.]+ import \w+ as {name}$"
    lines = [f"from {cls.__module__} import {cls.__qualname__} as {called}" for called, cls in classes.items()]
    text, replaced = re.subn(importing, "\n".join(lines), _source(root), flags=re.MULTILINE)
    assert replaced == 1, (root, name)
    ours = {__package__.partition(".")[0], *(cls.__module__.partition(".")[0] for cls in classes.values())}
    files: dict[str, str] = {"shapes.py": SHAPES}
    waiting = {root.__name__.rpartition(".")[2]: text}
    while waiting:
        own, text = waiting.popitem()
        needed = {found["module"] for found in FROM.finditer(text) if found["module"].partition(".")[0] in ours}
        files[f"{own}.py"] = FROM.sub(lambda found: _relative(found, ours), text)
        waiting |= {_flat(module): _source(importlib.import_module(module)) for module in needed if _new(module, files)}
    return files


def _new(module: str, files: dict[str, str]) -> bool:
    return f"{_flat(module)}.py" not in files


def _relative(found: "re.Match[str]", ours: set[str]) -> str:
    indent, module = found["indent"], found["module"]
    if module == "jaxtyping":
        return f"{indent}from .shapes import"
    return f"{indent}from .{_flat(module)} import" if module.partition(".")[0] in ours else found[0]


def _flat(module: str) -> str:
    return module.replace(".", "_")


def _source(module: ModuleType) -> str:
    try:
        text = inspect.getsource(module)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"{module.__name__} has no source that an export could carry: put its class in a file"
        ) from error
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    return re.sub(  # make relative imports absolute
        r"^(\s*from )(\.[\w.]*)(?= import)",
        lambda found: found[1] + importlib.util.resolve_name(found[2], package),
        text,
        flags=re.MULTILINE,
    )
