"""How good a trained network is: metrics, baselines, and where the errors are."""
