"""Rotation of the webhook secret: what a body may ask for, what becomes of the config, and what many writers leave."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.crypto import validate_webhook_secret
from kite_common.errors import Unavailable
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.testing.strategies import json_values
from kite_gateway.adapters.webhook_configs import CipherSeal
from kite_gateway.application.configure_webhook import ConfigureWebhook, Rotated
from kite_gateway.domain.webhook_config import (
    InvalidConfig,
    WantedConfig,
    WantedRotation,
    configured,
    previous_ends_ms,
    read_config,
    read_rotation,
    rotated,
    rotated_again,
)
from kite_gateway.testing import CountingIds, FakeSeal, FakeWebhookConfigs

TEAM = TeamId("team_a")
NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
NOW_MS = to_unix_ms(NOW)
DAY_MS = 86_400_000
PUT = WantedConfig("https://a.example", "first", ())


class Gateways:
    """Two gateways over one log of configs."""

    def __init__(self, configs: FakeWebhookConfigs | None = None, *, has_key: bool = True) -> None:
        self.configs, self.clock, seal, ids = configs or FakeWebhookConfigs(), FrozenClock(NOW), FakeSeal(has_key), CountingIds()
        self.one, self.other = (ConfigureWebhook(self.configs, seal, self.clock, ids) for _ in range(2))

    @property
    def config(self) -> WebhookConfigured:
        return self.configs.configs[TEAM]

    @property
    def secrets(self) -> list[str]:
        """The plain secrets of the config, newest first."""
        return [one.sealed.removeprefix("sealed(").partition(",")[0] for one in self.config.secrets]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, WantedRotation(None, 86_400)),
        ({"secret": None, "overlap_secs": None}, WantedRotation(None, 86_400)),
        ({"secret": "next", "overlap_secs": 0}, WantedRotation("next", 0)),
        ({"overlap_secs": 604_800, "unknown": []}, WantedRotation(None, 604_800)),
    ],
)
def test_what_a_rotation_leaves_out_has_a_default(body: dict[str, Any], wanted: WantedRotation) -> None:
    assert read_rotation(body) == wanted


WRONG_OVERLAPS: list[object] = [-1, 604_801, 1.0, True, "60", [], 10**30]
WRONG_SECRETS: list[object] = ["", 1, "a\n", "whsec_short", "a" * 257, {}]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *(({"overlap_secs": wrong}, "invalid_overlap") for wrong in WRONG_OVERLAPS),
        *(({"secret": wrong}, "invalid_secret") for wrong in WRONG_SECRETS),
    ],
)
def test_a_rotation_outside_the_rules_is_refused(body: dict[str, Any], code: str) -> None:
    found = read_rotation(body)
    assert isinstance(found, InvalidConfig)
    assert found.code == code


@given(st.dictionaries(st.sampled_from(["secret", "overlap_secs"]), json_values))
def test_any_object_is_a_rotation_or_says_what_is_wrong(body: dict[str, Any]) -> None:
    assert isinstance(read_rotation(body), WantedRotation | InvalidConfig)


@pytest.mark.parametrize(
    ("asked", "has_keys", "found"), [(None, False, "v1"), ("v1", False, "v1"), ("v1", True, "v1"), ("v1a", True, "v1a")]
)
def test_a_config_is_signed_as_it_asks(asked: object, has_keys: bool, found: str) -> None:
    wanted = read_config({"url": "https://a.example", "secret": "s", "signature": asked}, allow_private=False, has_keys=has_keys)
    assert isinstance(wanted, WantedConfig)
    assert configured(None, wanted, TEAM, WebhookConfigId("c"), "sealed", 1).signature == found


@pytest.mark.parametrize(("asked", "has_keys"), [("v1a", False), ("v2", True), ("", True), (1, True), (["v1"], True)])
def test_a_signature_the_server_cannot_make_is_refused(asked: object, has_keys: bool) -> None:
    found = read_config({"url": "https://a.example", "secret": "s", "signature": asked}, allow_private=False, has_keys=has_keys)
    assert isinstance(found, InvalidConfig)
    assert found.code == "invalid_signature_scheme"


def test_a_config_may_ask_for_batches_within_bounds() -> None:
    asked = {"url": "https://a.example", "secret": "s", "mode": "batch", "batch_max_events": 100, "batch_max_wait_ms": 0}
    wanted = read_config(asked, allow_private=False)
    assert isinstance(wanted, WantedConfig)
    config = configured(None, wanted, TEAM, WebhookConfigId("c"), "sealed", 1)
    assert (config.mode, config.batch_max_events, config.batch_max_wait_ms) == ("batch", 100, 0)
    again = configured(config, PUT, TEAM, WebhookConfigId("d"), "sealed", 2)
    assert (again.mode, again.batch_max_events, again.batch_max_wait_ms) == ("structured", 16, 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "binary"), ("mode", 1), ("batch_max_events", 0), ("batch_max_events", 101), ("batch_max_events", True),
     ("batch_max_wait_ms", -1), ("batch_max_wait_ms", 1_001), ("batch_max_wait_ms", 1.5)],
)  # fmt: skip
def test_a_batch_outside_the_bounds_is_refused(name: str, value: object) -> None:
    found = read_config({"url": "https://a.example", "secret": "s", name: value}, allow_private=False)
    assert isinstance(found, InvalidConfig)
    assert found.code == "invalid_batch"


def test_a_put_without_the_field_goes_back_to_v1() -> None:
    first = configured(None, replace(PUT, signature="v1a"), TEAM, WebhookConfigId("c"), "sealed", 1)
    assert configured(first, PUT, TEAM, WebhookConfigId("d"), "sealed", 2).signature == "v1"


@given(st.lists(st.tuples(st.integers(0, 604_800), st.integers(0, 10**12)), min_size=1, max_size=6))
def test_the_newest_two_secrets_live_the_former_until_its_overlap_ends(rotations: list[tuple[int, int]]) -> None:
    config = configured(None, PUT, TEAM, WebhookConfigId("c"), "sealed 0", 1)
    for number, (overlap_s, now_ms) in enumerate(rotations, start=1):
        before = config
        config = rotated(config, f"sealed {number}", overlap_s, now_ms)
        assert [one.sealed for one in config.secrets] == [f"sealed {number}", f"sealed {number - 1}"]
        assert (config.secrets[0].expires_at, previous_ends_ms(config)) == (None, now_ms + overlap_s * 1000)
        assert config.updated_at > before.updated_at, "two writers tell by the stamp what they saw"
        assert (config.id, config.url, config.created_at) == (before.id, before.url, before.created_at)


@given(st.integers(0, 604_800), st.lists(st.tuples(st.integers(0, 604_800), st.integers(0, DAY_MS)), max_size=5))
def test_repeats_never_put_the_end_of_the_former_secret_off(overlap_s: int, repeats: list[tuple[int, int]]) -> None:
    config = rotated(configured(None, PUT, TEAM, WebhookConfigId("c"), "sealed 0", 1), "sealed 1", overlap_s, NOW_MS)
    expected, now_ms = NOW_MS + overlap_s * 1000, NOW_MS
    for again_s, later_ms in repeats:
        now_ms += later_ms
        expected = min(expected, now_ms + again_s * 1000)
        config = rotated_again(config, again_s, now_ms)
        assert previous_ends_ms(config) == expected
        assert [one.sealed for one in config.secrets] == ["sealed 1", "sealed 0"]


async def test_a_secret_of_the_servers_making_is_shown_once_and_signs() -> None:
    gateways = Gateways()
    await gateways.one.replace(TEAM, PUT)
    made = await gateways.one.rotate(TEAM, WantedRotation(None))
    assert isinstance(made, Rotated)
    assert made.secret is not None
    validate_webhook_secret(made.secret)
    assert gateways.secrets == [made.secret, "first"]
    assert previous_ends_ms(made.config) == NOW_MS + DAY_MS
    assert f"secret='{made.secret}'" not in repr(made)
    given = await gateways.one.rotate(TEAM, WantedRotation("mine"))
    assert isinstance(given, Rotated)
    assert (given.secret, gateways.secrets) == (None, ["mine", made.secret])


async def test_a_repeat_with_the_same_secret_changes_nothing() -> None:
    gateways = Gateways()
    await gateways.one.replace(TEAM, PUT)
    first = await gateways.one.rotate(TEAM, WantedRotation("next"))
    gateways.clock.advance(timedelta(minutes=1))
    assert await gateways.other.rotate(TEAM, WantedRotation("next")) == first
    assert await gateways.other.rotate(TEAM, WantedRotation("next", 604_800)) == first
    cut = await gateways.other.rotate(TEAM, WantedRotation("next", 0))
    assert isinstance(cut, Rotated)
    assert previous_ends_ms(cut.config) == NOW_MS + 60_000
    assert gateways.secrets == ["next", "first"]


async def test_a_put_ends_an_overlap_at_once() -> None:
    gateways = Gateways()
    await gateways.one.replace(TEAM, PUT)
    await gateways.one.rotate(TEAM, WantedRotation("next"))
    await gateways.one.replace(TEAM, replace(PUT, secret="put"))
    assert gateways.secrets == ["put"]
    again = await gateways.one.rotate(TEAM, WantedRotation("put"))
    assert isinstance(again, Rotated)
    assert (previous_ends_ms(again.config), gateways.secrets) == (None, ["put"])


async def test_without_a_config_or_a_key_nothing_is_rotated() -> None:
    gateways = Gateways()
    assert await gateways.one.rotate(TEAM, WantedRotation(None)) == "no_config"
    await gateways.one.replace(TEAM, PUT)
    await gateways.one.deactivate(TEAM)
    assert await gateways.one.rotate(TEAM, WantedRotation(None)) == "no_config"
    without = Gateways(has_key=False)
    without.configs.configs[TEAM] = configured(None, PUT, TEAM, WebhookConfigId("c"), "sealed", 1)
    assert await without.one.rotate(TEAM, WantedRotation(None)) == "no_key"


async def test_two_gateways_rotating_at_once_lose_neither_secret() -> None:
    for _ in range(20):
        gateways = Gateways()
        await gateways.one.replace(TEAM, PUT)
        await asyncio.gather(gateways.one.rotate(TEAM, WantedRotation("left")), gateways.other.rotate(TEAM, WantedRotation("right")))
        assert sorted(gateways.secrets) == ["left", "right"]


async def test_a_rotation_neither_revives_a_deleted_config_nor_undoes_a_put() -> None:
    gateways = Gateways()
    await gateways.one.replace(TEAM, PUT)
    elsewhere = replace(PUT, url="https://b.example", secret="second")
    await asyncio.gather(
        gateways.one.rotate(TEAM, WantedRotation("left")), gateways.other.replace(TEAM, elsewhere),
        gateways.one.rotate(TEAM, WantedRotation("right")),
    )  # fmt: skip
    assert gateways.config.url == "https://b.example"
    await asyncio.gather(gateways.one.rotate(TEAM, WantedRotation("late")), gateways.other.deactivate(TEAM))
    assert not gateways.config.active


@given(st.lists(st.sampled_from(["rotate", "put", "delete"]), min_size=2, max_size=6))
def test_whatever_two_gateways_do_at_once_is_as_if_it_was_done_one_after_another(kinds: list[str]) -> None:
    configs = Noting()
    gateways, chain = Gateways(configs), configs.chain

    async def act() -> None:
        await gateways.one.replace(TEAM, PUT)
        await asyncio.gather(*(_act(gateways, number, kind) for number, kind in enumerate(kinds)))

    asyncio.run(act())
    for before, after in zip(chain, chain[1:], strict=False):
        if len(after.secrets) == 2:
            assert (before.active, after.secrets[1].sealed, after.url) == (True, before.secrets[0].sealed, before.url)


class Noting(FakeWebhookConfigs):
    """Remembers what was stored, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.chain: list[WebhookConfigured] = []

    async def store(self, config: WebhookConfigured, *, instead_of: WebhookConfigured | None, not_after_ms: int) -> bool:
        stored = await super().store(config, instead_of=instead_of, not_after_ms=not_after_ms)
        if stored:
            self.chain.append(config)
        return stored


class Overtaken(FakeWebhookConfigs):
    """Somebody else is always faster."""

    async def store(self, config: WebhookConfigured, *, instead_of: WebhookConfigured | None, not_after_ms: int) -> bool:
        other = config if instead_of is None else instead_of.model_copy(update={"updated_at": instead_of.updated_at + 1})
        self.configs[config.team_id] = other
        return await super().store(config, instead_of=instead_of, not_after_ms=not_after_ms)


async def _act(gateways: Gateways, number: int, kind: str) -> None:
    gateway = (gateways.one, gateways.other)[number % 2]
    match kind:
        case "rotate":
            await gateway.rotate(TEAM, WantedRotation(f"secret {number}"))
        case "put":
            await gateway.replace(TEAM, replace(PUT, url=f"https://{number}.example"))
        case _:
            await gateway.deactivate(TEAM)


async def test_whoever_is_overtaken_for_ever_gives_up_in_time() -> None:
    gateways = Gateways()
    await gateways.one.replace(TEAM, PUT)
    overtaken = Overtaken(gateways.configs.configs, gateways.clock, pause_ms=1_000)
    gateways = Gateways(overtaken)
    overtaken.clock = gateways.clock
    with pytest.raises(Unavailable):
        await gateways.one.rotate(TEAM, WantedRotation("next"))


def test_a_sealed_secret_is_recognised_under_any_of_the_keys_and_for_its_config_only() -> None:
    old, new = b"o" * 32, b"n" * 32
    sealed = CipherSeal([old], lambda length: b"n" * length).seal("secret", TEAM, WebhookConfigId("config"))
    assert sealed is not None
    both = CipherSeal([new, old], lambda length: b"n" * length)
    assert both.holds(sealed, "secret", TEAM, WebhookConfigId("config"))
    assert not both.holds(sealed, "other", TEAM, WebhookConfigId("config"))
    assert not both.holds(sealed, "secret", TEAM, WebhookConfigId("another"))
    assert not CipherSeal([new], lambda length: b"n" * length).holds(sealed, "secret", TEAM, WebhookConfigId("config"))
    validate_webhook_secret(both.new_secret())
