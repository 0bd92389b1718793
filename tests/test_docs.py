"""The documentation's commands and links work (test_extending.py tests docs/extending.md)."""

import re
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.typed import commands, composed, in_documents
from tti.__main__ import main

DOCS = Path(__file__).parents[1] / "docs"


PAGES = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
# tests/end_to_end tests what extending.md adds.
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
    """Whether a command of the page writes the folder; for the many runs of an experiment, its folder suffices."""
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
