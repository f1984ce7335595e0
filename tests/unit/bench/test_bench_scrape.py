"""Numbers out of the Prometheus text format."""

from kite_cli.bench.scrape import total
from kite_common.runtime.metrics import Metrics


def test_samples_are_summed_over_the_labels_that_are_not_asked_for() -> None:
    metrics = Metrics()
    lag = metrics.gauge("kite_consumer_lag")
    lag.labels(group="g", topic="kite.events", partition="0").set(3)
    lag.labels(group="g", topic="kite.events", partition="1").set(4)
    lag.labels(group="g", topic='odd "topic"', partition="0").set(10)
    text = bytes(metrics.exposition().body).decode()
    assert total(text, "kite_consumer_lag") == 17
    assert total(text, "kite_consumer_lag", topic="kite.events") == 7
    assert total(text, "kite_consumer_lag", partition="1") == 4


def test_a_metric_is_not_taken_for_one_whose_name_it_begins() -> None:
    assert total("kite_a_total 5\nkite_a_total_more 7\n# HELP kite_a_total 9\n", "kite_a_total") == 5


def test_what_is_not_there_is_zero() -> None:
    assert total("", "kite_a_total") == total('kite_a_total{x="1"} 5\n', "kite_a_total", x="2") == 0


def test_large_values_are_read_in_their_short_form() -> None:
    assert total("kite_a_total 1.5e+06\n", "kite_a_total") == 1_500_000
