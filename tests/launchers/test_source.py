"""What is shipped is the same from a checkout, a checkout in another folder, and a wheel."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tti.launchers import source

ROOT = Path(__file__).parents[2]
SAY = "from tti.launchers import source; import tti; print(source.digest(), tti.__file__)"


def digest(path: Path, cwd: Path) -> list[str]:
    """Digest and place of the package that a fresh interpreter finds in ``path``."""
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


def test_the_image_has_what_the_wheel_needs_in_the_versions_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    pinned = dict(line.split("==") for line in source.requirements())
    assert pinned.keys() == wanted.keys() - {"modal"}
    for name, version in pinned.items():
        assert version in wanted[name], name
        assert "+" not in version  # torch's CPU build would be useless there
