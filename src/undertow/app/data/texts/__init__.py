"""Texts to symbols: documents, alphabets, byte pairs."""
