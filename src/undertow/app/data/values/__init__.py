"""Texts in columns to numbers and categories."""
