"""Ports: found free, held, and named when somebody else has them."""

import os
import socket
from collections.abc import Iterator

import pytest

from kite_cli.local.ports import LOOPBACK, PortBook, holder_text, is_free, listening_inodes

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1E14 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11111 1 0 100 0 0 10 0
   1: 0100007F:1E14 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 22222 1 0 100 0 0 10 0
   2: 00000000:1E15 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 33333 1 0 100 0 0 10 0
"""


@pytest.fixture
def book() -> Iterator[PortBook]:
    """A port book that gives its ports back."""
    book = PortBook()
    yield book
    book.release()


@pytest.fixture
def taken(book: PortBook) -> Iterator[int]:
    """A port somebody (we) listens on."""
    port = book.pick()
    with socket.create_server((LOOPBACK, port)):
        yield port


def test_only_the_listening_socket_of_that_port_is_found() -> None:
    assert listening_inodes(TABLE, 7700) == {"11111"}


def test_the_process_that_listens_is_named(taken: int) -> None:
    assert str(os.getpid()) in holder_text(taken)


def test_a_taken_port_is_not_free_and_not_picked(taken: int) -> None:
    other = PortBook()
    assert not is_free(taken)
    assert other.pick([taken]) != taken
    other.release()


def test_the_next_port_is_used_but_not_one_that_others_wish_for(taken: int) -> None:
    other = PortBook()
    picked = other.pick(after=taken, avoid={taken + 1})
    assert taken + 1 < picked < taken + 100
    other.release()


def test_a_port_held_by_one_stack_is_not_picked_by_another(book: PortBook) -> None:
    port, other = book.pick(), PortBook()
    assert not other.take(port)
    book.release()
    assert other.take(port)
    other.release()


def test_picked_ports_lie_below_those_of_outgoing_connections(book: PortBook) -> None:
    assert all(book.pick() < 32_000 for _ in range(20))
