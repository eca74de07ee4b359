"""Timings as ratios measured in one run: `make bench`.  Absolute times on a shared machine drift."""
