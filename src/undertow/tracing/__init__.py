"""Recording of modules' calls: ``trace`` in a ``with`` block, ``FlowMonitor`` over a whole training.

What was recorded is read without torch (traced.py), so nothing is imported here.
"""
