"""What is sent to a remote machine: our code, conf/, the Hydra plugins, and the versions of their dependencies."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions, requires, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tti.configuration import DISTRIBUTION, conf_dir

SUFFIXES = {".py", ".yaml", ".html", ".css", ".js"}  # the last three are for reports in browsers
EXTRAS = ("probes", "umap")  # extras of commands that run remotely
# Shipped, but not used by training: changes to these do not count as different code for a running sweep.
NOT_OF_TRAINING = (
    *(f"tti/{name}/" for name in ("benchmarking", "evaluation", "huggingface", "reporting")),
    *(f"tti/{name}.py" for name in ("benchmark", "evaluate", "export", "generate", "neuronpedia", "report", "sae")),
    *(f"conf/{name}.yaml" for name in ("benchmark", "evaluate", "export", "generate", "neuronpedia", "report", "sae")),
    "conf/evaluation/",
)


def folders() -> dict[str, Path]:
    """Remote folder -> local folder, in a checkout or an installed package."""
    spec = find_spec("hydra_plugins")
    assert spec is not None
    plugins = [path for place in spec.submodule_search_locations or () for path in Path(place).glob("tti_*")]
    return {
        "tti": _package(),
        "conf": Path(conf_dir()),
        **{f"hydra_plugins/{path.name}": path for path in reversed(plugins)},  # the first on the path takes precedence
    }


def left_out(path: Path) -> bool:
    """Whether a file, given by its path in one of the folders, is not sent: no source, or a wheel's copy of conf/."""
    return path.suffix not in SUFFIXES or path.parts[0] == "conf"


def digest() -> str:
    """A digest of everything that training uses, equal here and on the remote machine."""
    content = hashlib.sha256()
    for name, folder in sorted(folders().items()):
        for path in _files(folder):
            place = f"{name}/{path.relative_to(folder).as_posix()}"
            if not place.startswith(NOT_OF_TRAINING):
                content.update(f"{place}\n".encode() + path.read_bytes())
    return content.hexdigest()[:12]


def requirements() -> list[str]:
    """The package's dependencies, and those of its ``EXTRAS`` that are installed, pinned to the local versions.

    The local part of a version (``+cpu``) is dropped, so that a remote machine gets the build for its GPU; modal is
    left out, since Modal's machines have it. A package installed from a URL (such as a spaCy model) is installed from
    there.
    """
    needed, extras = _declared()
    names = [requirement.name for requirement in map(Requirement, needed) if requirement.name != "modal"]
    names += [requirement.name for requirement in map(Requirement, extras) if _installed(requirement.name)]
    return [_pinned(name) for name in dict.fromkeys([*names, *_language_models()])]


def _declared() -> tuple[list[str], list[str]]:
    """The package's dependencies, and those that its extras add."""
    project = _package().parent / "pyproject.toml"
    if project.exists():  # a checkout, whose metadata may come from an earlier install
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = [line for extra in EXTRAS for line in declared["optional-dependencies"][extra]]
        return list(declared["dependencies"]), extras
    lines = requires(DISTRIBUTION) or []
    extras = [line for line in lines if any(f"extra == '{extra}'" in line.replace('"', "'") for extra in EXTRAS)]
    return [line for line in lines if "extra ==" not in line], extras


def _language_models() -> list[str]:
    """The installed distributions of spaCy's English models."""
    names = {str(found.metadata["Name"]) for found in distributions()}
    return sorted(name for name in names if name.replace("-", "_").startswith("en_core_web_"))


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _pinned(name: str) -> str:
    origin = json.loads(distribution(name).read_text("direct_url.json") or "{}").get("url", "")
    return f"{name} @ {origin}" if origin.startswith("http") else f"{name}=={Version(version(name)).public}"


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return (path for path in found if not left_out(path.relative_to(folder)))


def _package() -> Path:
    return Path(str(files("tti")))
