"""From tidy tables of runs to comparisons, Markdown and figures."""
