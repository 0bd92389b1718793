"""docs/architecture.md and its diagram agree with pyproject.toml and the imports."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))  # scripts is not a package

import draw_architecture  # noqa: E402


def test_the_picture_is_drawn_from_the_imports_that_there_are():
    assert draw_architecture.PICTURE.read_text() == draw_architecture.picture(), "python scripts/draw_architecture.py"


def test_the_page_lists_the_layers_that_are_kept():
    listed = "\n".join(" · ".join(row) for row in draw_architecture.layers())
    assert f"```\n{listed}\n```" in (ROOT / "docs" / "architecture.md").read_text()
