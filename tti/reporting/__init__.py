"""Reports: from run folders to tables, comparisons, Markdown, figures and a page."""
