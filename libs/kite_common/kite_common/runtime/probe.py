"""`python -m kite_common.runtime.probe PORT`: exit code 0 if the process on that port of this machine is ready.

The health check of a container: the image has no curl. It loads nothing but the standard library, as it is started every few seconds.
"""

import http.client
import sys
from typing import Final

# Below the timeout of the health check, so that the answer is this one.
_TIMEOUT_S: Final = 4.0
_OK: Final = 200


def is_ready(port: int, timeout_s: float = _TIMEOUT_S) -> bool:
    """Whether `/readyz` answers 200 within the time, in seconds. Blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(sys.argv[1])) else 1)
