"""The command line: one file per verb, and the model, data and loop they share.

It uses only public names of the package, so it is also the first proof that those suffice.
"""

import sys


def main() -> None:
    """The command ``undertow``; where its libraries are missing, a line that says how to get them."""
    from undertow.app.signals import end_at_once

    end_at_once()
    try:
        from undertow.app import cli
    except ModuleNotFoundError as missing:
        print(
            f"undertow: the command line needs {missing.name}: pip install 'undertow[app]'", file=sys.stderr
        )
        sys.exit(2)
    cli.main()
