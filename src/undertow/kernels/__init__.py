"""One layer's call, computed by the first engine that serves it."""
