"""``python -m undertow``: the command ``undertow``."""

from undertow.app import main

main()
