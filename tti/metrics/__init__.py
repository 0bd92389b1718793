"""Metrics that accumulate sums, counts and tables, so that several processes give the same result as one."""
