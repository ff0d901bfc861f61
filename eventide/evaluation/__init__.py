"""Metrics and result files; no model needed."""
