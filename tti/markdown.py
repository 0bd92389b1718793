"""Markdown tables, and escaping of text that must not become markup."""

import re


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(_in_a_cell, cells))} |" for cells in lines)


def code(text: str) -> str:
    """A code span, fenced by more backticks than occur in a row in the text (CommonMark 0.31, 6.1)."""
    text = " ".join(text.split()) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * (text.startswith("`") or text.endswith("`"))
    return f"{fence}{space}{text}{space}{fence}"


def escaped(text: str) -> str:
    """Text as one line that is shown literally, without markup or HTML."""
    return re.sub(r"([\\`*\[\]<>#|&]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def _in_a_cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.replace("\n", " "))
