"""The command line: one file per verb, and the model, data and loop they share.

Only public names of undertow are used here. Nothing in this package is imported by the rest.
"""
