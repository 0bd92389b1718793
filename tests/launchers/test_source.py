"""The same files are shipped from a checkout, a checkout in another folder, and a wheel."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import grimp
import pytest
from packaging.requirements import Requirement

from tti.launchers import source

ROOT = Path(__file__).parents[2]
SAY = "from tti.launchers import source; import tti; print(source.digest(), tti.__file__)"


def digest(path: Path, cwd: Path) -> list[str]:
    """Digest and location of the package that a fresh interpreter finds in ``path``."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", SAY], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("__pycache__"))


def test_a_container_has_the_digest_of_what_was_shipped(shipped, tmp_path):
    assert (shipped / "conf/train.yaml").exists()
    assert (shipped / "conf/experiment/expt1.yaml").exists()
    assert (shipped / "hydra_plugins/tti_variants/variants_sweeper.py").exists()
    assert not list(shipped.rglob("*.pyc"))
    assert digest(shipped, tmp_path) == [source.digest(), str(shipped / "tti/__init__.py")]


def test_a_checkout_in_another_folder(tmp_path):
    for name in ("tti", "conf", "hydra_plugins"):
        copy(ROOT / name, tmp_path / "checkout" / name)
    assert digest(tmp_path / "checkout", tmp_path)[0] == source.digest()


@pytest.mark.slow
def test_a_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    assert digest(tmp_path / "site", tmp_path) == [source.digest(), str(tmp_path / "site/tti/__init__.py")]


def test_the_digest_follows_the_code_and_the_configuration(shipped, tmp_path):
    copy(shipped, tmp_path / "other")
    with (tmp_path / "other/conf/train.yaml").open("a") as file:
        file.write("# changed\n")
    assert digest(tmp_path / "other", tmp_path)[0] != source.digest()


@pytest.mark.parametrize("place", source.NOT_OF_TRAINING)
def test_the_digest_does_not_follow_what_training_does_not_use(shipped, tmp_path, place, monkeypatch):
    copy(shipped, tmp_path / "other")
    changed = tmp_path / "other" / place
    with next(changed.rglob("*.*") if changed.is_dir() else iter([changed])).open("a") as file:
        file.write("# changed\n")
    digests = []
    for root in (shipped, tmp_path / "other"):
        monkeypatch.setattr(source, "folders", lambda root=root: {name: root / name for name in ("tti", "conf")})
        digests.append(source.digest())
    assert digests[0] == digests[1]


def test_training_imports_nothing_that_the_digest_leaves_out():
    graph = grimp.build_graph("tti", cache_dir=None)
    texts = [path.read_text() for path in (ROOT / "conf").rglob("*.yaml") if not _left_out(path)]
    named = {name for text in texts for name in re.findall(r"(?:_target_|path): (tti[\w.]+)", text)}
    modules = {next(module for module in _prefixes(name) if module in graph.modules) for name in named}
    assert {"tti.modules.language_model", "tti.regularizers.online_sae"} <= modules
    used = modules | {"tti.train", "tti.launchers.remote", "tti.launchers.app"}
    used |= set().union(*map(graph.find_upstream_modules, used))
    assert not [name for name in used if f"{name.replace('.', '/')}.py".startswith(source.NOT_OF_TRAINING)]


def _left_out(path):
    return path.relative_to(ROOT).as_posix().startswith(source.NOT_OF_TRAINING)


def _prefixes(name):
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def test_the_image_has_what_the_wheel_needs_in_the_versions_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    pinned = {Requirement(line).name: Requirement(line) for line in source.requirements()}
    assert wanted.keys() - {"modal"} <= pinned.keys()
    for name in wanted.keys() - {"modal"}:
        (version,) = pinned[name].specifier
        assert version.version in wanted[name], name
        assert "+" not in version.version  # torch's CPU build would be useless there


def test_the_image_has_the_extras_that_are_installed_here(monkeypatch):
    monkeypatch.setattr(source, "_installed", lambda name: name == "spacy")
    names = {Requirement(line).name for line in source.requirements()}
    assert "spacy" in names
    assert "umap-learn" not in names
    assert any(name.startswith("en") and "core" in name for name in names)  # without it there are no parts of speech


def test_what_was_installed_from_an_address_comes_from_there(monkeypatch):
    found = SimpleNamespace(read_text=lambda name: '{"url": "https://example.org/model-1.0.whl"}')
    monkeypatch.setattr(source, "distribution", lambda name: found)
    assert source._pinned("model") == "model @ https://example.org/model-1.0.whl"
    found.read_text = lambda name: '{"url": "file:///checkout"}'
    assert source._pinned("numpy").startswith("numpy==")
