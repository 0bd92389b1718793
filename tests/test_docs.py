"""What the documentation shows, works: the regularizer of docs/extending.md, added from outside and swept."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tti.runs import Run

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_regularizer_of_the_docs_is_added_with_two_files_and_swept(tmp_path, monkeypatch):
    (tmp_path / "winner_share.py").write_text(blocks("extending.md", "python")[0])
    yaml = blocks("extending.md", "yaml")[0].replace("tti.regularizers.winner_share", "winner_share")
    group = tmp_path / "my_conf" / "regularizer"
    group.mkdir(parents=True)
    (group / "winner_share.yaml").write_text(yaml)
    command = [sys.executable, "-m", "tti.train", "--config-dir", str(tmp_path / "my_conf"), "-m"]
    small = ["model=tiny", "data=grammar", "data.corpus.train=100", "data.corpus.validation=20", "data.corpus.test=20"]
    sizes = ["data.stories_per_step=4", "trainer.max_steps=4", "name=docs"]
    sweep = ["regularizer=winner_share", "regularizer.winner_share.weight=0.1,1"]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, *small, *sizes, *sweep],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "TTI_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [Run(folder) for folder in sorted((tmp_path / "runs" / "default-docs").glob("*/seed-42"))]
    assert [run.status for run in runs] == ["finished"] * 2
    first, last = runs[0].metrics()[0], runs[0].metrics()[-1]
    assert 0.5 < first["train/winner_share"] < 1
    assert last["train/winner_share_weighted"] > 0


def test_every_page_that_a_page_links_to_is_there():
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
