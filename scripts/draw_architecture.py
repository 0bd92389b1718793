"""Draws docs/architecture.svg, the packages of tti in their layers, from the import graph.

    python scripts/draw_architecture.py

The rows are the layers in pyproject.toml, which `lint-imports` enforces. An arrow means "imports"; arrows implied by
others are omitted (the transitive reduction of the import graph), since there would be over a hundred.
"""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import grimp
import networkx as nx

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, ROW, BOX, MARGIN, LETTER = 1000, 78, 30, 12, 7.6
STYLE = """
  text { font: 13px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: #1f2328; }
  rect { fill: #ddf4ff; stroke: #54aeff; }
  rect.command { fill: #dafbe1; stroke: #4ac26b; }
  path { fill: none; stroke: #8c959f; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } rect { fill: #0c2d6b; stroke: #388bfd; } rect.command { fill: #033a16; stroke: #2ea043; }
    path { stroke: #6e7681; }
  }
"""

Edge = tuple[str, str]


def layers() -> list[list[str]]:
    """The packages in layers, from the commands down."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [[name.strip() for name in row.split("|")] for row in contracts[0]["layers"]]


def imports() -> set[Edge]:
    """Which package imports which, without imports implied by others."""
    modules = grimp.build_graph("tti", cache_dir=None)
    graph = nx.DiGraph()
    for module in modules.modules:
        for imported in modules.find_modules_directly_imported_by(module):
            graph.add_edge(_package(module), _package(imported))
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    graph.remove_nodes_from(["tti"])
    return set(nx.transitive_reduction(graph).edges)


def _package(module: str) -> str:
    return ".".join(module.split(".")[1:2]) or "tti"


def arranged(rows: Sequence[Sequence[str]], edges: Iterable[Edge]) -> list[list[str]]:
    """The rows, each sorted by the position of its packages' neighbors in other rows."""
    neighbours = nx.Graph(edges)
    arranged = [list(row) for row in rows]
    for _ in range(20):
        centre = {name: x for row in arranged for name, x, _ in placed(row)}
        for row in arranged:
            row.sort(key=lambda name: (_mean(centre, neighbours, name), name))
    return arranged


def _mean(centre: dict[str, float], neighbours: "nx.Graph[str]", name: str) -> float:
    around = [centre[other] for other in neighbours.neighbors(name)] if name in neighbours else []
    return sum(around) / len(around) if around else centre[name]


def placed(row: Sequence[str]) -> list[tuple[str, float, float]]:
    """Name, centre and width of each box in a row."""
    widths = [LETTER * len(name) + 2 * MARGIN for name in row]
    gap = (WIDTH - sum(widths)) / (len(row) + 1)
    left, found = gap, []
    for name, width in zip(row, widths, strict=True):
        found.append((name, left + width / 2, width))
        left += width + gap
    return found


def picture() -> str:
    """The drawing as SVG."""
    edges = imports()
    rows = arranged(layers(), edges)
    commands = {path.stem for path in (ROOT / "tti").glob("*.py") if "__main__" in path.read_text()}
    boxes = {name: (x, i * ROW + MARGIN, w) for i, row in enumerate(rows) for name, x, w in placed(row)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {len(rows) * ROW}" role="img" '
        f'aria-label="The packages of tti in layers; arrows point from importer to imported">',
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 1 L7 4 L0 7"/></marker>',
    ]
    for importer, imported in sorted(edges):
        (x, y, _), (to_x, to_y, _) = boxes[importer], boxes[imported]
        down = (to_y - y - BOX) / 2
        curve = f"M{x:.0f} {y + BOX} C{x:.0f} {y + BOX + down:.0f} {to_x:.0f} {to_y - down:.0f} {to_x:.0f} {to_y - 2}"
        lines.append(f'<path marker-end="url(#tip)" d="{curve}"><title>{importer} imports {imported}</title></path>')
    for name, (x, y, width) in boxes.items():
        kind = ' class="command"' if name in commands else ""
        lines.append(f'<rect{kind} x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{BOX}" rx="5"/>')
        lines.append(f'<text x="{x:.0f}" y="{y + 20}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture())
    print(f"wrote {PICTURE.relative_to(ROOT)}")
