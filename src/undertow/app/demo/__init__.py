"""What ``undertow demo`` does."""
