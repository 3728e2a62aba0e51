"""The tasks: what each offers to the training loop."""
