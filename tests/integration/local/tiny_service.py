"""A stand-in for a service, run as a script: GET answers 200 on KITE_HOST and KITE_PORT; `--helper` gives it a child of its own."""

import http.server
import os
import subprocess
import sys

_HELPER = "import time; time.sleep(600)"


class _Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def main() -> None:
    """Serve until ended."""
    if "--helper" in sys.argv:
        helper = subprocess.Popen([sys.executable, "-c", _HELPER])
        sys.stdout.write(f"helper pid {helper.pid}\n")
        sys.stdout.flush()
    port = int(os.environ["KITE_PORT"])
    http.server.ThreadingHTTPServer((os.environ["KITE_HOST"], port), _Ok).serve_forever()


if __name__ == "__main__":
    main()
