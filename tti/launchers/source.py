"""What a remote machine gets of this one: our code, conf/, the Hydra plugins, and the versions of what they need."""

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

SUFFIXES = {".py", ".yaml", ".html", ".css", ".js"}  # the last three: what a report writes for browsers
EXTRAS = ("probes", "umap")  # of use to commands that run remotely
# Shipped, but nothing that training imports or composes: a change of these is no other code to a run that is under way.
NOT_OF_TRAINING = (
    *(f"tti/{name}/" for name in ("benchmarking", "evaluation", "huggingface", "reporting")),
    *(f"tti/{name}.py" for name in ("benchmark", "evaluate", "export", "generate", "neuronpedia", "report", "sae")),
    *(f"conf/{name}.yaml" for name in ("benchmark", "evaluate", "export", "generate", "neuronpedia", "report", "sae")),
    "conf/evaluation/",
)


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
    """Twelve characters that stand for all that training takes of it, the same here and on the remote machine."""
    content = hashlib.sha256()
    for name, folder in sorted(folders().items()):
        for path in _files(folder):
            place = f"{name}/{path.relative_to(folder).as_posix()}"
            if not place.startswith(NOT_OF_TRAINING):
                content.update(f"{place}\n".encode() + path.read_bytes())
    return content.hexdigest()[:12]


def requirements() -> list[str]:
    """What the package depends on, and of its ``EXTRAS`` what is installed, each in the version that is here.

    Without the local part of a version (``+cpu``), so that a remote machine takes the build for its own GPU; without
    modal, which its own machines bring along. A package that was installed from an address (a model of spaCy's) comes
    from there.
    """
    needed, extras = _declared()
    names = [requirement.name for requirement in map(Requirement, needed) if requirement.name != "modal"]
    names += [requirement.name for requirement in map(Requirement, extras) if _installed(requirement.name)]
    return [_pinned(name) for name in dict.fromkeys([*names, *_language_models()])]


def _declared() -> tuple[list[str], list[str]]:
    """What the package depends on, and what its extras add."""
    project = _package().parent / "pyproject.toml"
    if project.exists():  # a checkout, whose metadata may be those of an earlier install
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = [line for extra in EXTRAS for line in declared["optional-dependencies"][extra]]
        return list(declared["dependencies"]), extras
    lines = requires(DISTRIBUTION) or []
    extras = [line for line in lines if any(f"extra == '{extra}'" in line.replace('"', "'") for extra in EXTRAS)]
    return [line for line in lines if "extra ==" not in line], extras


def _language_models() -> list[str]:
    """The distributions of spaCy's English models that are installed."""
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
