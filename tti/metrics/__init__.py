"""Metrics: sums, counts and tables while streaming, ratios and entropies at the end; so several processes equal one."""
