"""What ``undertow export`` writes."""
