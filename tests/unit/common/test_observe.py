"""Logs without secrets, metrics from one list, trace context read strictly."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kite_common.runtime.observe import METRICS, Metrics, TraceContext, configure_logging, get_logger
from kite_common.runtime.system import boottime_s, jitter, monotonic_s, random_bits, random_bytes, token_hex
from kite_common.testing import make, strategies

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def out() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("info", "json", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(out: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_logger_and_event(out: io.BytesIO) -> None:
    get_logger("kite.test").info("message.accepted", team_id="team_a", seconds=0.25, nested={"a": [1, None]})
    (line,) = _lines(out)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "logger": "kite.test", "event": "message.accepted", "team_id": "team_a",
        "seconds": 0.25, "nested": {"a": [1, None]},
    }  # fmt: skip


def test_lines_below_the_level_are_not_written(out: io.BytesIO) -> None:
    get_logger("kite.test").debug("message.parsed")
    logging.getLogger("some.library").debug("chatter")
    assert _lines(out) == []


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "secret", "client_secret", "api_key", "apiKey", "token", "hook_token", "password",
        "pepper", "cookie",
        "set-cookie", "payment-signature", "x-payment", "x_payment_signature", "private_key", "webhook-signature", "cipher_key",
    ],
)  # fmt: skip
def test_fields_with_names_of_secrets_are_masked_at_any_depth(out: io.BytesIO, name: str) -> None:
    get_logger("kite.test").info("seen", **{name: "hunter2"}, headers={name: "hunter2", "accept": "*/*"})
    (line,) = _lines(out)
    assert line[name] == line["headers"][name] == "****"
    assert line["headers"]["accept"] == "*/*"


@pytest.mark.parametrize("name", ["key_prefix", "api_key_id", "token_prefix", "secret_count", "team_id", "retry_after_s", "idempotency"])
def test_fields_that_only_sound_like_secrets_are_kept(out: io.BytesIO, name: str) -> None:
    get_logger("kite.test").info("seen", **{name: "value"})
    assert _lines(out)[0][name] == "value"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"/hooks/team_a/github/{make.HOOK_TOKEN}", "/hooks/team_a/github/khk_14151617_****"),
        (f"key {make.API_KEY}!", "key kite_00010203_****!"),
        (f"secret {make.WEBHOOK_SECRET} end", "secret whsec_**** end"),
        ("sent Bearer abc.def-ghi", "sent Bearer ****"),
        ("cannot reach redis://user:hunter2@redis:6379/0", "cannot reach redis://****@redis:6379/0"),
        ("http://:hunter2@ch:8123", "http://****@ch:8123"),
        ("https://example.com/a:b@c", "https://example.com/a:b@c"),
    ],
)
def test_secrets_are_masked_by_their_form_wherever_they_stand(out: io.BytesIO, text: str, shown: str) -> None:
    get_logger("kite.test").info("seen", path=text, deep=[{"inner": (text,)}])
    (line,) = _lines(out)
    assert line["path"] == line["deep"][0]["inner"][0] == shown


def test_an_exception_is_a_field_with_its_traceback_and_without_secrets(out: io.BytesIO) -> None:
    get_logger("kite.test").error("request.failed", exc_info=ValueError(f"bad key {make.API_KEY}"))
    (line,) = _lines(out)
    assert "ValueError: bad key kite_00010203_****" in line["exception"]
    assert make.API_KEY[-32:] not in out.getvalue().decode()


def test_lines_of_libraries_come_out_in_the_same_form(out: io.BytesIO) -> None:
    logging.getLogger("some.library").warning("connection to %s lost", "redis://u:hunter2@host")
    (line,) = _lines(out)
    assert (line["logger"], line["level"], line["event"]) == ("some.library", "warning", "connection to redis://****@host lost")


def test_what_cannot_be_written_as_json_does_not_end_the_work(out: io.BytesIO) -> None:
    get_logger("kite.test").info("seen", value=object(), raw=b"\xff", number=1 << 70, lone="\ud800", keys={1: 2})
    logging.getLogger("some.library").warning("lone %s", "\ud800")
    assert len(out.getvalue().splitlines()) == 2


def test_people_can_have_plain_text(out: io.BytesIO) -> None:
    configure_logging("info", "console", out)
    get_logger("kite.plain").info("message.accepted", team_id="team_a", token="hunter2")
    text = out.getvalue().decode()
    assert "info    kite.plain message.accepted team_id=team_a token=****" in text


def test_every_metric_is_well_formed_and_explained() -> None:
    names = [definition.name for definition in METRICS]
    assert len(set(names)) == len(names)
    for definition in METRICS:
        assert definition.name.startswith("kite_")
        assert definition.name.endswith("_total") == (definition.type == "counter")
        assert bool(definition.buckets) == (definition.type == "histogram")
        assert definition.meaning
        assert definition.unit


def test_every_metric_can_be_had_by_its_type_and_no_other() -> None:
    metrics = Metrics()
    for definition in METRICS:
        by_type = {"counter": metrics.counter, "gauge": metrics.gauge, "histogram": metrics.histogram}
        by_type.pop(definition.type)(definition.name)
        for other in by_type.values():
            with pytest.raises(KeyError):
                other(definition.name)


@pytest.mark.parametrize("name", ["kite_nope_total", "", "kite_gateway_refused"])
def test_a_metric_that_is_not_in_the_list_cannot_be_had(name: str) -> None:
    metrics = Metrics()
    for of_type in (metrics.counter, metrics.gauge, metrics.histogram, metrics.value):
        with pytest.raises(KeyError):
            of_type(name)


def test_two_processes_worth_of_metrics_share_no_number() -> None:
    one, other = Metrics(), Metrics()
    one.counter("kite_gateway_refused_total").labels(code="not_found").inc(2)
    assert one.value("kite_gateway_refused_total", code="not_found") == 2
    assert other.value("kite_gateway_refused_total", code="not_found") == 0


def test_the_exposition_holds_name_value_and_meaning() -> None:
    metrics = Metrics()
    metrics.counter("kite_gateway_messages_accepted_total").labels(kind="message").inc()
    metrics.histogram("kite_gateway_admission_seconds").observe(0.003)
    text = bytes(metrics.exposition().body).decode()
    assert 'kite_gateway_messages_accepted_total{kind="message"} 1.0' in text
    assert 'kite_gateway_admission_seconds_bucket{le="0.005"} 1.0' in text
    assert "# HELP kite_gateway_admission_seconds one round trip of admission to Redis [seconds]" in text


@pytest.mark.parametrize(
    "header", [TRACEPARENT, TRACEPARENT.encode(), TRACEPARENT.replace("00-", "cc-", 1), TRACEPARENT.replace("00-", "01-", 1) + "-more"]
)
def test_a_traceparent_is_read(header: str | bytes) -> None:
    assert TraceContext.parse(header) == TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)


@pytest.mark.parametrize(
    "header",
    [
        None, "", b"", "00", TRACEPARENT.upper(), TRACEPARENT + "-more", TRACEPARENT + " ", TRACEPARENT[:-1], "ff" + TRACEPARENT[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", TRACEPARENT.replace("-", "_"),
        TRACEPARENT.replace("4bf9", "4bg9"), "01" + TRACEPARENT[2:] + "x", b"\xff" * 55, TRACEPARENT.replace("4", "٤"),
    ],
)  # fmt: skip
def test_a_malformed_traceparent_begins_a_new_trace(header: str | bytes | None) -> None:
    assert TraceContext.parse(header) is None


@given(st.integers(0, (1 << 192) - 1), st.integers(0, (1 << 64) - 1))
def test_a_trace_goes_on_in_its_children_and_survives_the_header(bits: int, more: int) -> None:
    trace = TraceContext.begin(bits)
    child = trace.child(more)
    assert child.trace_id == trace.trace_id
    assert TraceContext.parse(trace.header()) == trace
    assert TraceContext.parse(child.header()) == child
    assert child.log_fields() == {"trace_id": trace.trace_id, "span_id": child.span_id}


def test_the_sampled_flag_is_passed_on_and_unknown_flags_are_not() -> None:
    parsed = TraceContext.parse(TRACEPARENT[:-2] + "ff")
    assert parsed is not None
    assert parsed.child(7).header().endswith("-0000000000000007-01")


@given(strategies.texts)
def test_any_text_is_a_traceparent_or_not(text: str) -> None:
    parsed = TraceContext.parse(text)
    assert parsed is None or parsed.trace_id in text


def test_the_system_gives_numbers_in_their_bounds() -> None:
    assert 0 <= jitter() < 1
    assert 0 <= random_bits(74) < 1 << 74
    assert (len(random_bytes(12)), len(token_hex(8))) == (12, 16)
    assert monotonic_s() <= monotonic_s()
    assert boottime_s() <= boottime_s()
