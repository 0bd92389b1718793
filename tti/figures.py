"""The look that all figures share."""

from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # figures go to files, and a machine may have no display
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tti",  # equal figures give equal files
}
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6A51A3",
)  # Okabe and Ito 2008, and violet
INK = "#222222"  # colour of what others are compared with, and of a line without others
