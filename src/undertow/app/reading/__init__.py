"""A trained network that reads sequences once: what ``inspect``, ``doctor`` and ``predict`` do."""
