"""Layers, traces and flow records as NumPy arrays and files."""
