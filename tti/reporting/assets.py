"""The files of ``web/``: templates of pages, which share one head, and the styles and scripts that they use.

A file of another package's ``web/`` has the package before its name: ``tti.court:court.html``.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tti.durable import write_atomically


def rendered(template: str, **values: Any) -> str:
    """A page."""
    loader = jinja2.FunctionLoader(asset)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["asset"] = asset
    return environment.get_template(template).render(**values)


def asset(name: str) -> Markup:
    """The content of a file, as it stands."""
    package, _, file = name.rpartition(":")
    return Markup((files(package or "tti.reporting") / "web" / file).read_text(encoding="utf-8"))


def write_page(template: str, beside: Sequence[str], folder: Path) -> None:
    """Write a page as ``index.html`` of an existing folder, with the styles and scripts that it loads."""
    write_atomically(folder / "index.html", rendered(template))
    for name in beside:
        write_atomically(folder / name, asset(name))
