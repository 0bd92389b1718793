"""``tti COMMAND ...``, or ``python -m tti COMMAND ...``: the same as ``python -m tti.COMMAND ...``."""

import ast
import runpy
import sys
from pathlib import Path

import hydra

from tti.configuration import conf_dir

HERE = Path(__file__).parent


def commands() -> dict[str, str]:
    """Each module with a configuration of its own name, and what its first line says that it does."""
    names = sorted(path.stem for path in Path(conf_dir()).glob("*.yaml") if (HERE / f"{path.stem}.py").exists())
    return {name: _purpose(HERE / f"{name}.py") for name in names}


def main() -> None:
    """Run a command; without one, or with one that there is not, list them."""
    name, arguments = sys.argv[1] if len(sys.argv) > 1 else "--help", sys.argv[2:]
    known = commands()
    if name not in known:
        asked = name in ("-h", "--help", "help")
        lines = [f"  tti {command:<12} {purpose}" for command, purpose in known.items()]
        text = "\n".join(["usage: tti COMMAND [key=value ...]; tti COMMAND --help explains one", "", *lines])
        sys.exit(print(text) if asked else f"error: there is no command {name!r}\n{text}")
    sys.argv = [f"tti {name}", *arguments]
    if {"-h", "--help"} & set(arguments):  # what a command imports takes seconds
        return hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)(print)()
    runpy.run_module(f"tti.{name}", run_name="__main__", alter_sys=True)


def _purpose(module: Path) -> str:
    """``does this`` of a module that begins with: ``python -m tti.x``: does this."""
    first = (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.rpartition("``: ")[2].rstrip(".")


if __name__ == "__main__":
    main()
