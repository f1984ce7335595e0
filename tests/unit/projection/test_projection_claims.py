"""What a usage says about claims, and which server process an answer of Redis names."""

import pytest

from kite_common.events.codec import decode_as
from kite_common.events.usage import FirstAnswer, UsageRecorded
from kite_common.projection.claims import AcceptedClaim, claim_arguments, claims_of
from kite_common.projection.server import server_id
from kite_common.testing import make

ANSWER = FirstAnswer(body_digest="digest", received_at=make.NOW_MS, events_used=3, events_limit=10)
DAY_MS = 86_400_000


def test_a_usage_without_a_key_claims_nothing() -> None:
    assert claims_of(make.usage()) == ()


def test_a_claim_ends_a_day_after_its_reservation_and_says_what_was_answered() -> None:
    usage = make.usage(idempotency="claim", first_answer=ANSWER, price_atomic=80, reserved_at=5)
    [claim] = claims_of(usage)
    assert claim == AcceptedClaim(usage.team_id, "claim", usage.event_id, 5 + DAY_MS, 80, ANSWER)  # type: ignore[arg-type]  # plain text
    assert claim_arguments(claim) == (usage.event_id, "digest", make.NOW_MS, 3, 10, 80, 5 + DAY_MS, 1, "")


def test_a_usage_of_an_older_writer_takes_the_key_and_knows_no_answer() -> None:
    written = make.usage(idempotency="claim", reserved_at=5).model_dump_json(exclude={"first_answer"}).encode()
    [claim] = claims_of(decode_as(UsageRecorded, written))
    assert claim_arguments(claim) == (make.EVENT_ID, "", 0, 0, 0, 0, 5 + DAY_MS, 0, "")


def test_a_payment_is_claimed_for_an_hour_longer_and_its_receipt_is_kept() -> None:
    answer = ANSWER.model_copy(update={"receipt": "{}"})
    usage = make.usage(idempotency="key", payment_claim="payment", delivery_claim="delivery", first_answer=answer, reserved_at=5)
    claims = claims_of(decode_as(UsageRecorded, usage.to_json()))
    assert [(one.claim, one.ends_ms) for one in claims] == [
        ("key", 5 + DAY_MS), ("payment", 5 + DAY_MS + 3_600_000), ("delivery", 5 + DAY_MS),
    ]  # fmt: skip
    assert {claim_arguments(one)[-1] for one in claims} == {"{}"}


@pytest.mark.parametrize("reply", [{"run_id": "ab12"}, b"# Server\r\nredis_version:7\r\nrun_id:ab12\r\ntcp_port:1\r\n", "run_id:ab12"])
def test_the_id_is_found_in_whatever_a_client_gives(reply: object) -> None:
    assert server_id(reply) == "ab12"


def test_a_redis_that_hides_its_id_is_told() -> None:
    with pytest.raises(ValueError, match="run_id"):
        server_id(b"# Server\r\nredis_version:7\r\n")
