"""Runs a service from the image in place of this process: its settings are those of this environment, its network that of this machine."""

import os
import sys

settings = [name for name in os.environ if name.startswith(("KITE_", "X402_"))]
os.execvp("docker", [
    "docker", "run", "--rm", "--init", "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", *(word for name in settings for word in ("--env", name)), sys.argv[1], sys.argv[2],
])  # fmt: skip
