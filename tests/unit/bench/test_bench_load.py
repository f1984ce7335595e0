"""What is counted of a run, and the bytes and values that go to and from a generator."""

import math
from collections import Counter
from dataclasses import asdict

import orjson

from kite_cli.bench.load.job import Job, Outcome, Sender
from kite_cli.bench.load.loops import Window, outcome_of
from kite_cli.bench.load.requests import messages, request, text_of

SENDER = Sender("team_a:b", "hk_secret")
JOB = Job(
    kind="open", port=7700, senders=(SENDER, Sender("team_c", "hk_other")), connections=8, rate=200, warm_up_s=1, measure_s=2,
    body_bytes=1_000, seed=3,
)  # fmt: skip


def test_a_job_comes_out_of_its_line_as_it_went_in() -> None:
    line = JOB.to_json()
    assert b"\n" not in line
    assert Job.from_json(line) == JOB


def test_a_key_is_not_shown() -> None:
    assert "hk_" not in repr(JOB)


def test_a_window_holds_its_beginning_and_not_its_end() -> None:
    window = Window(1.0, 2.0)
    assert [window.holds(at) for at in (0.999, 1.0, 1.999, 2.0)] == [False, True, True, False]


def test_an_outcome_has_percentiles_of_any_order() -> None:
    outcome = outcome_of([3.0, 1.0, 2.0, 4.0], Counter({202: 4}), 2.5, [0.2, 0.1])
    assert outcome == Outcome(4, 2.5, 2.0, 4.0, 4.0, 4.0, {"202": 4}, 0.2)


def test_everything_but_202_is_an_error_also_what_never_came() -> None:
    outcome = outcome_of([1.0], Counter({202: 7, 429: 2, 0: 1, -1: 3, 503: 0}), 1.0)
    assert outcome.errors == 6
    assert outcome.statuses == {"-1": 3, "0": 1, "202": 7, "429": 2}


def test_a_run_without_answers_has_no_percentiles_also_after_its_way_through_json() -> None:
    outcome = outcome_of([], Counter({-1: 5}), 0.0)
    again = Outcome.from_json(orjson.loads(orjson.dumps(asdict(outcome))))
    assert math.isnan(outcome.p99_ms)
    assert math.isnan(again.p99_ms)
    assert (again.errors, again.count) == (5, 0)


def test_a_text_has_the_length_that_was_asked_for() -> None:
    assert [len(text_of(length)) for length in (0, 1, 117, 1_000)] == [0, 1, 117, 1_000]


def test_a_message_is_a_whole_request() -> None:
    (sent,) = messages([SENDER], 50)
    head, _, body = sent.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/agents/messages?team_id=team_a%3Ab HTTP/1.1"
    assert "Authorization: Bearer hk_secret" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert orjson.loads(body) == {"from": "planner", "to": "builder", "body": text_of(50)}


def test_there_is_a_message_for_each_recipient_and_the_senders_take_turns() -> None:
    sent = messages(JOB.senders, 1, ("one", "two"))
    assert [sender.key.encode() in request for request, sender in zip(sent, JOB.senders * 2, strict=True)] == [True] * 4
    assert [orjson.loads(request.partition(b"\r\n\r\n")[2])["to"] for request in sent] == ["one", "one", "two", "two"]


def test_a_request_without_a_body_has_no_length_and_an_escaped_query() -> None:
    sent = request("GET", "/api/v1/events", SENDER, since="2026-04-27 12:34:56.789:x", limit=1000)
    assert sent.startswith(b"GET /api/v1/events?team_id=team_a%3Ab&since=2026-04-27%2012%3A34%3A56.789%3Ax&limit=1000 HTTP/1.1\r\n")
    assert b"Content-Length" not in sent
    assert sent.endswith(b"\r\n\r\n")
