"""Which types pass a filter (wire contract, 10.3), and where a delivery goes by the config of the moment."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.ids import DeliveryId, WebhookConfigId
from kite_delivery.domain.event_filter import wants
from kite_delivery.domain.route import End, Send, route
from kite_delivery.testing import a_delivery, an_endpoint


@pytest.mark.parametrize(
    ("entries", "event_type", "wanted"),
    [
        ((), "com.github.push", True),
        (("com.github.push",), "com.github.push", True),
        (("com.github.push",), "com.github.pushed", False),
        (("com.github.*",), "com.github.push", True),
        (("com.github.*",), "com.github.pull.request", True),
        (("com.github.*",), "com.github", False),
        (("com.github.*",), "com.githubber.push", False),
        (("com.stripe.*", "com.kite.agent.message"), "com.kite.agent.message", True),
    ],
)
def test_entries_are_exact_or_end_in_a_star(entries: tuple[str, ...], event_type: str, wanted: bool) -> None:
    assert wants(entries, event_type) == wanted


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_star_matches_what_goes_on_after_the_dot(prefix: str, rest: str) -> None:
    assert wants((f"{prefix}.*",), f"{prefix}.{rest}")


def test_an_event_goes_to_the_active_endpoint() -> None:
    assert route(a_delivery(), an_endpoint()) == Send(an_endpoint())


def test_a_team_without_a_config_has_no_endpoint() -> None:
    assert _status(route(a_delivery(), None)) == "no_endpoint"


def test_an_event_from_before_the_activation_has_no_endpoint_and_one_at_its_moment_has() -> None:
    assert _status(route(a_delivery(appended_ms=1_999), an_endpoint(active_since_ms=2_000))) == "no_endpoint"
    assert isinstance(route(a_delivery(appended_ms=2_000), an_endpoint(active_since_ms=2_000)), Send)


def test_a_deactivation_cancels_what_came_before_it_and_later_events_have_no_endpoint() -> None:
    ended = an_endpoint(active=False, changed_ms=3_000)
    assert _status(route(a_delivery(appended_ms=2_000), ended)) == "cancelled"
    assert _status(route(a_delivery(appended_ms=3_000), ended)) == "no_endpoint"


def test_a_type_that_is_not_wanted_is_filtered() -> None:
    assert _status(route(a_delivery(event_type="com.github.push"), an_endpoint(event_types=("com.stripe.*",)))) == "filtered"


def test_waiting_deliveries_are_cancelled_by_a_deletion_and_by_a_new_config() -> None:
    endpoint = an_endpoint()
    waiting = replace(a_delivery(), config_id=endpoint.config_id, delivery_id=DeliveryId("d"), attempts=1)
    assert isinstance(route(waiting, endpoint), Send)
    assert _status(route(waiting, replace(endpoint, active=False))) == "cancelled"
    assert _status(route(waiting, None)) == "cancelled"
    assert _status(route(waiting, replace(endpoint, config_id=WebhookConfigId("another")))) == "cancelled"


def test_a_filter_set_later_does_not_call_back_what_was_attempted() -> None:
    endpoint = an_endpoint(event_types=("com.stripe.*",))
    waiting = replace(a_delivery(), config_id=endpoint.config_id, attempts=1)
    assert isinstance(route(waiting, endpoint), Send)
    assert _status(route(replace(waiting, attempts=0), endpoint)) == "filtered"


def _status(found: Send | End) -> str:
    assert isinstance(found, End)
    return found.status
