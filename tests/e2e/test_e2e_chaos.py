"""A minute under fire: two processes of each service, all kinds of callers, a broker restarted, processes killed, frozen, replaced."""

from pathlib import Path
from typing import Final

import pytest

from kite_cli.chaos.schedule import service_of
from kite_cli.chaos.verdict import BREAKS
from support.kitectl import Kitectl

SEED: Final = "17"
# Its rolls are of one process of each service.
ROLLS_ALL: Final = "18"
KINDS: Final = ("kill", "term", "stop", "broker-restart")


@pytest.mark.timeout(420)
async def test_every_promise_is_kept_in_a_minute_under_fire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--seed", SEED, "--minutes", "1", "--faults", ",".join(KINDS), "--patience", "20", "--data", str(tmp_path / "chaos"))
    ended = await Kitectl(tmp_path)("chaos", *run, "--json")
    assert ended.documents, ended.err
    report = ended.document
    with capsys.disabled():
        print("", *report["faults"], report["figures"], report["breaks"], report["longest_wait_s"], sep="\n")
    assert report["breaks"] == dict.fromkeys(BREAKS, 0), report["violations"]
    assert report["audit"]["ok"], report["audit"]["violations"]
    assert report["ok"]
    assert ended.code == 0, ended.err
    assert {fault["kind"] for fault in report["faults"]} == set(KINDS)
    assert report["figures"]["accepted"] > 100
    assert report["figures"]["payments"] > 0
    assert report["figures"]["rows shown to readers"] > 0


@pytest.mark.timeout(600)
async def test_nobody_notices_that_every_service_is_replaced_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--seed", ROLLS_ALL, "--minutes", "1.6", "--faults", "roll", "--data", str(tmp_path / "rolls"))
    ended = await Kitectl(tmp_path)("chaos", *run, "--json")
    assert ended.documents, ended.err
    report = ended.document
    with capsys.disabled():
        print("", *report["each"], report["figures"], report["statuses"], report["longest_wait_s"], sep="\n")
    assert report["breaks"] == dict.fromkeys(BREAKS, 0), report["violations"]
    assert report["ok"]
    assert report["audit"]["ok"], report["audit"]["violations"]
    assert {service_of(one["target"]) for one in report["each"]} == {"gateway", "billing", "delivery", "replay"}
    assert set(report["statuses"]) <= {"200", "202", "404", "409", "503"}, "answers, and no request without one"
    assert report["figures"]["accepted"] > 100
