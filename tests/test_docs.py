"""What the documentation shows, works: the regularizer of docs/extending.md, added from outside and swept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.typed import commands, composed, in_documents
from tti.__main__ import main
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


PAGES = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
# What extending.md adds is tested above.
WITH_COMMANDS = [page for page in PAGES if in_documents(page) and page.name != "extending.md"]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_every_command_of_a_page_is_composed_and_reads_what_one_of_them_leaves(page):
    left, read = {"runs/demo", *(f"runs/demo/{variant}/seed-42" for variant in ("baseline", "topk"))}, []
    for command, arguments in in_documents(page):
        jobs = composed(command, arguments)
        if command == "train":
            left |= {str(Path(config.run_dir)) for config in jobs} | {str(Path(jobs[0].run_dir).parents[1])}
        else:
            read += [source for key in ("run", "runs") if (source := jobs[0].get(key)) and command != "benchmark"]
    folders = [str(each) for source in read for each in ([source] if isinstance(source, str) else source)]
    missing = [folder for folder in folders if folder.startswith("runs/") and not _left(folder, left)]
    assert missing == []


def _left(folder, left):
    """By a command of the page, or by an experiment, whose runs are many: its folder is enough."""
    known = [*map(re.escape, left), *(rf"runs/{path.stem}(-\w+)?" for path in EXPERIMENTS.glob("*.yaml"))]
    return any(re.match(rf"{each}(/|$)", folder) for each in known)


EXPERIMENTS = DOCS.parent / "conf/experiment"


@pytest.mark.parametrize("name", sorted(path.stem for path in (DOCS.parent / "conf").glob("*.yaml")))
def test_help_says_what_a_command_does_with_three_examples_that_compose(name):
    with initialize_config_dir(str(DOCS.parent / "conf"), version_base="1.3"):
        header = compose(name, return_hydra_config=True).hydra.help.header
    sentence, examples = header.splitlines()[0], list(commands(header))
    assert sentence.endswith(".")
    assert len(examples) == 3
    for command, arguments in examples:
        assert command == name
        assert composed(command, arguments)


def test_the_commands_are_listed_with_what_they_do(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tti"])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().out
    assert not left.value.code
    for path in (DOCS.parent / "conf").glob("*.yaml"):
        assert re.search(rf"tti {path.stem} +[A-Z]\w+s .*\.", said), path.stem
    monkeypatch.setattr("sys.argv", ["tti", "trian"])
    with pytest.raises(SystemExit, match=r"error: there is no command 'trian'"):
        main()


def test_nobody_is_told_to_install_a_package_of_strangers():
    """`tti` on PyPI is another project."""
    tracked = subprocess.run(["git", "ls-files"], cwd=DOCS.parent, capture_output=True, text=True, check=True).stdout
    texts = {name: (DOCS.parent / name).read_text(errors="ignore") for name in tracked.split() if _is_text(name)}
    assert [name for name, text in texts.items() if re.search(r"""install (-\S+ )*['"]?tti\b(?!\.)""", text)] == []


def _is_text(name):
    return name.endswith((".py", ".md", ".yaml", ".toml", "Makefile"))


def test_every_page_that_a_page_links_to_is_there():
    pages = PAGES
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
