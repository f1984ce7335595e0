"""The rules of SLOs: what counts as bad, which buckets they stand on, and when a budget burns too fast."""

import re

import pytest

from kite_common.errors import CODES
from kite_common.runtime.metrics import METRICS
from kite_common.runtime.slos import BURNS, SLOS, WINDOWS, Slo, burning, recorded

each = pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)


@each
def test_its_metrics_are_there_and_a_bound_is_one_of_a_bucket(slo: Slo) -> None:
    known = {one.name: one for one in METRICS}
    for expression in (slo.bad, slo.total):
        for name in re.findall(r"kite_[a-z_]+", expression):
            assert name in known or re.sub("_(count|bucket)$", "", name) in known, name
        for name, bound in re.findall(r'(kite_[a-z_]+)_bucket\{.*?le="([0-9.]+)"', expression):
            assert float(bound) in known[name].buckets


def test_every_answer_of_ours_is_bad_but_what_an_operator_has_left_out() -> None:
    [bad] = re.findall(r'code=~"([a-z_|0-9]+)"', SLOS[0].bad)
    assert set(bad.split("|")) == {
        code for code, row in CODES.items() if row.status >= 500 and not code.endswith("_unconfigured")
    }  # fmt: skip


@each
def test_all_windows_that_an_alert_looks_at_are_recorded(slo: Slo) -> None:
    assert [window for _, window, _ in recorded(slo)] == list(WINDOWS)
    assert all("$window" not in expression for _, _, expression in recorded(slo))
    looked_at = {window for _, expression, _ in burning(slo) for window in re.findall(r'window="([0-9a-z]+)"', expression)}
    assert looked_at <= set(WINDOWS)


@each
def test_a_budget_that_is_used_as_fast_as_it_may_be_tells_nobody(slo: Slo) -> None:
    for (_, expression, burn), expected in zip(burning(slo), BURNS, strict=True):
        thresholds = {float(text) for text in re.findall(r"> ([0-9.]+)", expression)}
        [threshold] = thresholds
        assert burn == expected
        assert threshold == pytest.approx(burn.factor * (1 - slo.objective))
        assert threshold > 1 - slo.objective
