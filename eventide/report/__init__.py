"""Plots and reports made from files."""
