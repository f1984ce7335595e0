"""Payload <-> record: everything comes back as it went, and bytes that are no payload are Malformed and nothing else."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.events import codec
from kite_common.events.fact import Fact, TeamFact
from kite_common.events.registry import LATEST, UPCASTERS
from kite_common.events.usage import UsageRecorded
from kite_common.testing import make, strategies

UNKNOWN_HEADER = (("kite-record", b"no-such-kind"),)


@given(strategies.any_fact())
def test_decode_gives_back_what_was_encoded(fact: Fact) -> None:
    record = codec.encode(fact)
    assert codec.decode(record.headers, record.value) == fact
    assert record.key == fact.key.encode()


@pytest.mark.parametrize("kind", sorted(LATEST))
def test_every_kind_announces_itself_and_writes_its_version(kind: str) -> None:
    @given(strategies.facts(LATEST[kind]))
    def check(fact: Fact) -> None:
        record = codec.encode(fact)
        assert codec.record_kind(record.headers) == kind
        assert orjson.loads(record.value)["v"] == LATEST[kind].version

    check()


@given(strategies.records(), strategies.texts, strategies.json_values)
def test_readers_ignore_fields_they_do_not_know(record: codec.Record, name: str, value: Any) -> None:
    payload = orjson.loads(record.value)
    more = orjson.dumps({**{name: value}, **payload})
    assert codec.decode(record.headers, more) == codec.decode(record.headers, record.value)


@given(st.sampled_from(sorted(LATEST)), st.binary(max_size=300))
def test_any_bytes_are_a_payload_or_malformed(kind: str, value: bytes) -> None:
    _decodes_or_is_malformed(kind, value)


@given(st.sampled_from(sorted(LATEST)), strategies.json_values)
def test_any_json_is_a_payload_or_malformed(kind: str, value: Any) -> None:
    _decodes_or_is_malformed(kind, json.dumps(value).encode())


@given(strategies.any_fact(), st.data())
def test_a_payload_with_one_changed_member_is_a_payload_or_malformed(fact: Fact, data: st.DataObject) -> None:
    payload = orjson.loads(fact.to_json())
    payload[data.draw(st.sampled_from(sorted(payload)))] = data.draw(strategies.json_values)
    _decodes_or_is_malformed(fact.kind, json.dumps(payload).encode())


@given(strategies.any_fact(), st.data())
def test_a_cut_payload_is_malformed(fact: Fact, data: st.DataObject) -> None:
    value = fact.to_json()
    with pytest.raises(Malformed):
        codec.decode_as(type(fact), value[: data.draw(st.integers(0, len(value) - 1))])


@pytest.mark.parametrize(
    "broken",
    [
        b'"v":2,"x":NaN',
        b'"v":0',
        b'"v":-1',
        b'"v":true',
        b'"v":1.0',
        b'"v":"1"',
        b'"v":null',
        b'"v":2',
        b'"v":2,"x":' + b"9" * 400,
        b'"v":1e99',
    ],
)
def test_a_version_no_reader_knows_is_malformed(broken: bytes) -> None:
    with pytest.raises(Malformed):
        codec.decode_as(UsageRecorded, make.usage().to_json().replace(b'"v":1', broken))


def test_deeply_nested_bytes_are_malformed() -> None:
    with pytest.raises(Malformed):
        codec.decode_as(UsageRecorded, b'{"v":2,"x":' + b"[" * 100_000)


def test_amounts_must_be_integers() -> None:
    for wrong in (b"100.0", b'"100"', b"true", b"-1", b"9007199254740992"):
        with pytest.raises(Malformed):
            codec.decode_as(UsageRecorded, make.usage().to_json().replace(b'"price_atomic":100', b'"price_atomic":' + wrong))


def test_a_record_without_value_is_malformed() -> None:
    with pytest.raises(Malformed, match="no value"):
        codec.decode((("kite-record", b"usage"),), None)


@pytest.mark.parametrize("headers", [(), (("other", b"usage"),), UNKNOWN_HEADER, (("kite-record", b"\xff\xfe"),), (("kite-record", b""),)])
def test_a_record_of_unknown_kind_is_malformed(headers: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(Malformed):
        codec.decode(headers, make.usage().to_json())


def test_what_was_wrong_is_said_without_the_value() -> None:
    with pytest.raises(Malformed) as caught:
        codec.decode_as(UsageRecorded, make.usage().to_json().replace(b'"price_atomic":100', b'"price_atomic":"kite_secret"'))
    assert "price_atomic" in str(caught.value)
    assert "kite_secret" not in str(caught.value)


class _Renamed(TeamFact):
    """A payload in its third version: `amount` became `amount_atomic` in v2, `note` came in v3."""

    kind: ClassVar[str] = "renamed"
    version: ClassVar[int] = 3

    v: int = 3
    amount_atomic: int
    note: str


def v1_to_v2(payload: dict[str, Any]) -> dict[str, Any]:
    return {"amount_atomic": payload.pop("amount"), **payload}


def v2_to_v3(payload: dict[str, Any]) -> dict[str, Any]:
    return {"note": "", **payload}


@pytest.fixture
def upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    chain: Mapping[tuple[str, int], Any] = {("renamed", 1): v1_to_v2, ("renamed", 2): v2_to_v3}
    monkeypatch.setattr(codec, "UPCASTERS", {**UPCASTERS, **chain})


@pytest.mark.usefixtures("upcasters")
def test_older_versions_become_the_newest_step_by_step() -> None:
    newest = _Renamed(team_id="team_a", amount_atomic=5, note="")
    assert codec.decode_as(_Renamed, b'{"v":1,"team_id":"team_a","amount":5}') == newest
    assert codec.decode_as(_Renamed, b'{"v":2,"team_id":"team_a","amount_atomic":5}') == newest
    assert codec.decode_as(_Renamed, newest.to_json()) == newest


@pytest.mark.usefixtures("upcasters")
def test_an_older_version_that_happens_to_fit_the_newest_is_upcast_all_the_same() -> None:
    fits = b'{"v":2,"team_id":"team_a","amount_atomic":5,"note":"kept"}'
    assert codec.decode_as(_Renamed, fits) == _Renamed(team_id="team_a", amount_atomic=5, note="kept")


@pytest.mark.usefixtures("upcasters")
@pytest.mark.parametrize(
    "value", [b'{"v":1,"team_id":"team_a"}', b'{"v":1,"team_id":"team_a","amount":"x"}', b'{"v":4,"team_id":"a"}', b'{"v":0}']
)
def test_an_older_version_without_its_form_is_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        codec.decode_as(_Renamed, value)


def _decodes_or_is_malformed(kind: str, value: bytes) -> None:
    try:
        fact = codec.decode((("kite-record", kind.encode()),), value)
    except Malformed:
        return
    assert codec.decode((("kite-record", kind.encode()),), fact.to_json()) == fact
