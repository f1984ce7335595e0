"""Dead letters: whatever the record was, the log takes its letter."""

from base64 import b64decode

import pytest

from kite_common.events.codec import encode
from kite_common.events.deliveries import DeadLetter
from kite_common.stream.kafka import batch_size_of
from kite_common.topics import MAX_MESSAGE_BYTES

PLACE = ("kite.events", 3, 8)


def test_a_record_of_usual_size_is_kept_whole() -> None:
    letter = DeadLetter.of("replay", "not JSON", PLACE, 5, b"team_a", b"\xff\x00", (("kite-record", b"event"),))
    assert (letter.team_id, letter.reason, letter.topic, letter.partition, letter.offset, letter.at) == ("team_a", "not JSON", *PLACE, 5)
    assert b64decode(letter.original_value or "") == b"\xff\x00"
    assert [(name, b64decode(text)) for name, text in letter.original_headers] == [("kite-record", b"event")]


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k" * MAX_MESSAGE_BYTES, b"", ()),
        (b"\xff" * MAX_MESSAGE_BYTES, None, ()),
        (b"team_a", b"v" * MAX_MESSAGE_BYTES, ()),
        (b"team_a", b"v" * 1024 * 1024, (("h", b"x" * 64 * 1024),)),
        (b"team_a", b"v" * 1024 * 1024, (("h" * 1024, b"x"),) * 2000),
    ],
)
def test_the_log_takes_the_letter_of_the_largest_records(key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
    record = encode(DeadLetter.of("billing", "unreadable", PLACE, 5, key, value, headers))
    assert batch_size_of(record.key, record.value, record.headers) < MAX_MESSAGE_BYTES


def test_what_is_left_out_is_said() -> None:
    letter = DeadLetter.of("replay", "bad", PLACE, 5, b"t", b"v" * (1024 * 1024 + 1), (("h", b"x" * 65_536),))
    assert letter.reason == "bad (value of 1048577 bytes left out) (1 headers left out)"
    assert letter.original_value is None
    assert letter.original_headers == ()
