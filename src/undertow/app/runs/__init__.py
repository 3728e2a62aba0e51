"""Run folders: their configuration, weights, metrics and locks."""
