"""Columns of times: how they are written, their order, their frequency."""
