"""``tti COMMAND ...``, or ``python -m tti COMMAND ...``: the same as ``python -m tti.COMMAND ...``."""

import runpy
import sys
from pathlib import Path

import hydra
from omegaconf import OmegaConf

from tti.configuration import conf_dir

HERE = Path(__file__).parent


def commands() -> dict[str, str]:
    """The commands: modules and packages with a configuration of the same name; the first sentence of their help."""
    paths = [path for path in sorted(Path(conf_dir()).glob("*.yaml")) if _is_command(HERE / path.stem)]
    return {path.stem: OmegaConf.load(path).hydra.help.header.partition("\n")[0] for path in paths}


def _is_command(module: Path) -> bool:
    return module.with_suffix(".py").exists() or (module / "__main__.py").exists()


def main() -> None:
    """Run a command; without a command, or with an unknown one, list the commands."""
    name, arguments = sys.argv[1] if len(sys.argv) > 1 else "--help", sys.argv[2:]
    known = commands()
    if name not in known:
        asked = name in ("-h", "--help", "help")
        lines = [f"  tti {command:<12} {purpose}" for command, purpose in known.items()]
        text = "\n".join(["usage: tti COMMAND [key=value ...]; tti COMMAND --help explains one", "", *lines])
        sys.exit(print(text) if asked else f"error: there is no command {name!r}\n{text}")
    sys.argv = [f"tti {name}", *arguments]
    if {"-h", "--help"} & set(arguments):  # importing a command takes seconds
        hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)(print)()
    else:
        runpy.run_module(f"tti.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
