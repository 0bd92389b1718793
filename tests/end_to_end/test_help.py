"""`--help` of every command, and a scaled-down version of the README's first run."""

from pathlib import Path

import pytest
from small import SMALL

from tests.typed import in_documents

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf").glob("*.yaml")))
def test_help_is_a_sentence_examples_and_the_knobs_with_their_comments(tti, name):
    said = tti("--help", module=f"tti.{name}").ok().output
    assert said.count(f"python -m tti.{name}") == 3
    assert "powered by Hydra" not in said
    lines = (ROOT / f"conf/{name}.yaml").read_text().splitlines()
    assert all(line in said for line in [line for line in lines if "  # " in line and line[0] != " "][:1])
    assert "hydra:" not in said


def test_the_first_run_of_the_readme_works_as_it_is_written_scaled_down(tti):
    written = in_documents(ROOT / "README.md")
    smaller = [each for each in SMALL if not each.startswith(("experiment", "name"))]
    train = next(arguments for command, arguments in written if command == "train")
    tti("model=tiny", "data=grammar_small", *smaller, *train).ok()
    fit = ["tokens=1000", "k=[2]", "measured_tokens=300", "expansion=2", "fit.passes=1", "site=blocks.1.mlp_out"]
    for command, less in {"generate": ["tokens=4"], "export": [], "sae": fit}.items():
        arguments = next(given for name, given in written if name == command)
        tti(*arguments, *less, module=f"tti.{command}").ok()
