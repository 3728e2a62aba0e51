"""What ``undertow classics`` does."""
