"""What ``undertow train`` does."""
