"""What a remote machine gets of this one: our code, conf/, the Hydra plugins, and the versions of what they need."""

import hashlib
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tti.configuration import conf_dir

SUFFIXES = {".py", ".yaml", ".html", ".css", ".js"}  # the last three: what a report writes for browsers


def folders() -> dict[str, Path]:
    """Where each folder lies on a remote machine -> where it lies here: in a checkout or an installed package."""
    spec = find_spec("hydra_plugins")
    assert spec is not None
    plugins = [path for place in spec.submodule_search_locations or () for path in Path(place).glob("tti_*")]
    return {
        "tti": _package(),
        "conf": Path(conf_dir()),
        **{f"hydra_plugins/{path.name}": path for path in reversed(plugins)},  # the first on the path counts
    }


def left_out(path: Path) -> bool:
    """Whether a file, given by its path in one of the folders, stays here: no source, or a wheel's copy of conf/."""
    return path.suffix not in SUFFIXES or path.parts[0] == "conf"


def digest() -> str:
    """Twelve characters that stand for everything that is shipped, the same here and on the remote machine."""
    content = hashlib.sha256()
    for name, folder in sorted(folders().items()):
        for path in _files(folder):
            content.update(f"{name}/{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return content.hexdigest()[:12]


def requirements() -> list[str]:
    """What the package depends on, each in the version that is installed here.

    Without the local part of a version (``+cpu``), so that a remote machine takes the build for its own GPU; without
    modal, which its own machines bring along.
    """
    wanted = [requirement for requirement in map(Requirement, _declared()) if requirement.name != "modal"]
    return [f"{requirement.name}=={Version(version(requirement.name)).public}" for requirement in wanted]


def _declared() -> list[str]:
    project = _package().parent / "pyproject.toml"
    if project.exists():  # a checkout, whose metadata may be those of an earlier install
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [line for line in requires("tti") or () if "extra ==" not in line]


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return (path for path in found if not left_out(path.relative_to(folder)))


def _package() -> Path:
    return Path(str(files("tti")))
