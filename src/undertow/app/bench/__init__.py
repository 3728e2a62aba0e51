"""What ``undertow bench`` does."""
