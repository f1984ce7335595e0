"""The health check of a container: ready is 200 in time, everything else is not."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import create_server

import pytest

from kite_common.runtime.probe import is_ready


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers /readyz with this status, everything else with 404; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False), (302, False)])
def test_only_200_is_ready(status: int, ready: bool) -> None:
    with answering(status) as port:
        assert is_ready(port) is ready


def test_a_port_where_nobody_listens_is_not_ready() -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert is_ready(port) is False


def test_silence_is_not_ready() -> None:
    with create_server(("127.0.0.1", 0)) as silent:
        assert is_ready(silent.getsockname()[1], timeout_s=0.05) is False


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_as_a_command_it_says_so_by_its_exit_code(status: int, code: int) -> None:
    with answering(status) as port:
        assert subprocess.run([sys.executable, "-m", "kite_common.runtime.probe", str(port)], check=False).returncode == code
