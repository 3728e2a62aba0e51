"""Files to tables and texts: formats, encodings, separators."""
