"""The command line: one file per verb, and the model, data and training loop that the verbs share.

It uses only public names of the package, and thereby shows that these suffice.
"""

import sys


def main() -> None:
    """Run the command ``undertow``; if a library is missing, say in one line how to install it."""
    from undertow.app.garbage import wait_for_imports
    from undertow.app.signals import end_at_once

    end_at_once()
    wait_for_imports()
    try:
        from undertow.app import cli
    except ModuleNotFoundError as missing:
        print(
            f"undertow: the command line needs {missing.name}: pip install 'undertow[app]'", file=sys.stderr
        )
        sys.exit(2)
    cli.main()
