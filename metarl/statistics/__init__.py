"""Scores of shape [runs, tasks]: aggregates, bootstrap, intervals and performance profiles."""
