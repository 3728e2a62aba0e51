"""What ``undertow tune`` does: a study of Optuna whose trials are trainings."""
