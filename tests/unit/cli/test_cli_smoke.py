"""The journey of a message: what is missing and how that is said; the figures of a stack."""

from pathlib import Path

import pytest

from kite_cli.failure import CommandFailed
from kite_cli.found import FoundStack
from kite_cli.smoke.journey import STAGES, Journey, Stage
from kite_cli.smoke.stats import Stats, stats_of


def journey(**missing: str) -> Journey:
    stages = [Stage(name, None if name in missing else 1.5, missing.get(name, "seen")) for name in STAGES]
    return Journey("0199", "team_a", stages)


def test_a_whole_journey_is_ok() -> None:
    whole = journey()
    assert not whole.missing
    assert whole.to_json()["ok"] is True
    assert [stage["stage"] for stage in whole.to_json()["stages"]] == ["accepted", "billed", "delivered", "replayable"]


def test_a_missing_stage_is_named_with_its_reason_and_the_service_to_look_at() -> None:
    what, advice = journey(delivered="not within 20 s").verdict()
    assert what == "the message was not delivered (delivered: not within 20 s)"
    assert "log of delivery" in advice


def test_all_missing_stages_are_named() -> None:
    broken = journey(billed="not within 20 s", replayable="KafkaError")
    assert broken.to_json()["ok"] is False
    assert broken.verdict()[0].startswith("the message was not billed and not replayable")


def test_figures_add_up() -> None:
    stats = Stats(7.25, {"kafka": 300, "gateway": 50})
    assert stats.to_json() == {"first_accepted_s": 7.25, "resident_bytes": {"kafka": 300, "gateway": 50}, "resident_bytes_total": 350}
    assert "7.2 s" in stats.cold_start()


def test_a_start_that_was_not_recorded_is_said() -> None:
    assert stats_of(FoundStack(Path("/data"), 0, "", {}, {}), None).cold_start() == "cold start: not recorded"


def test_figures_of_a_remote_kite_are_refused() -> None:
    with pytest.raises(CommandFailed, match="needs a local stack"):
        stats_of(None, None)
