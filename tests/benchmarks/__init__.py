"""Measurements: ratios from one run, with the bare loop beside them. Absolute times on a shared machine are noise."""
