"""Billing processes by fork, for tests that start and kill many: what takes seconds, importing, is done once.

Orders are JSON lines on standard input, each answered by one on standard output: `{"start": environment, "prefix": text, "log": path}` with
the pid, `{"poll": pid}` with the exit code (null while it runs), `{"kill": pid}` (SIGKILL) with the exit code. At its end all are killed.
"""

import json
import os
import signal
import sys
from functools import partial
from typing import Any

from kite_billing.main import build
from kite_billing.settings import BillingSettings
from kite_common.runtime.supervisor import run_service


def started(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ.clear()
    os.environ.update(order["start"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        code = run_service("billing", BillingSettings, partial(build, prefix=order["prefix"]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(pid: int, flags: int = 0) -> int | None:
    found, status = os.waitpid(pid, flags)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            running.add(answer := started(order))
        else:
            pid = order.get("poll") or order["kill"]
            if "kill" in order:
                os.kill(pid, signal.SIGKILL)
            answer = ended(pid, 0 if "kill" in order else os.WNOHANG)  # type: ignore[assignment]
            if answer is not None:
                running.discard(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
