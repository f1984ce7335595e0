"""What Kite asks of ClickHouse's own tables, by a user who may not."""

from typing import Any, cast

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from kite_replay.adapters.clickhouse.grants import or_unknown
from kite_replay.adapters.clickhouse.sql import BROKEN_PARTS


class Refusing:
    """A client whose server answers every query with this error."""

    def __init__(self, text: str) -> None:
        self.text = text

    def query(self, *_arguments: Any, **_settings: Any) -> Any:
        raise DatabaseError(self.text)


def refusing(text: str) -> Client:
    return cast(Client, Refusing(text))


def test_what_one_may_not_ask_is_left_out() -> None:
    """A user with grants on its tables alone never got a tail: archiving never began."""
    denied = refusing("Code: 497. DB::Exception: kite: Not enough privileges. (ACCESS_DENIED)")
    assert or_unknown(denied, BROKEN_PARTS, "system.detached_parts") == ()


def test_every_other_error_is_one() -> None:
    with pytest.raises(DatabaseError):
        or_unknown(refusing("Code: 241. DB::Exception: (MEMORY_LIMIT_EXCEEDED)"), BROKEN_PARTS, "system.detached_parts")
