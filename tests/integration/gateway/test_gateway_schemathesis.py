"""Property-based requests against gateway and replay on the real stack: no 5xx but 503, and every answer is one the contract documents."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from kite_cli.local.stack import ServiceSpec
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import payments
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, CREDENTIALS, ENDPOINTS
from kite_gateway.adapters.scripts import connect
from kite_gateway.testing import Account, vouch
from support.gateway import CIPHER_KEY, CONFIG, MESSAGE, PARTITIONS, PEPPER, SEND, Gateway, Team, running
from support.stack import RunningStack

DOCUMENT: dict[str, Any] = orjson.loads((Path(__file__).parents[3] / "contracts" / "openapi.json").read_bytes())
# What has no parameters cannot be asked wrongly.
ASKED = [
    (mode, method, path)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or operation["parameters"]
]
EVENTS = "/api/v1/events"
HOOK = "acme"
WANTED = {"url": "https://hooks.example.com/kite", "secret": "hush-hush", "event_types": ["com.kite.*"]}
EXAMPLES = 40
# Nobody bills here: a change of the subscription that is valid waits for its outcome, and gives up with a 503 after 10 s.
LONGEST_ANSWER_S = 60
FEWER_EXAMPLES = {"/api/v1/subscription": 10}
MOSTLY = st.sampled_from([True] * 9 + [False])
CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
REPLAY, GATEWAY = "replay-of-the-contract", "gateway-of-the-contract"


@dataclass(frozen=True)
class Kite:
    """Gateway with replay behind it, a team that may do everything, and the contract as requests are made from it."""

    url: str
    team: Team
    hook_token: str
    contract: Any

    def ask(self, case: Case[Any]) -> int:
        """Send a request and hold its answer against the contract; its status."""
        response = case.call(base_url=self.url, timeout=LONGEST_ANSWER_S)
        assert response.status_code < 500 or response.status_code == 503, response.text
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and case.method != "HEAD":
            assert {"error", "message"} <= set(response.json())
        return response.status_code


@pytest.fixture(scope="module")
async def kite(stack: RunningStack) -> AsyncIterator[Kite]:
    """Both services are processes of their own: what they draw at random must not disturb how requests are made up here."""
    local, kafka = stack.local, Kafka(stack.kafka)
    await ensure_topics(kafka, ALL, PARTITIONS, 1)
    settings = {
        "KITE_API_KEY_PEPPER": PEPPER, "KITE_WEBHOOK_SECRET_CIPHER_KEY": CIPHER_KEY, "KITE_PARTITIONS": str(PARTITIONS),
        "X402_ENABLED": "true", "X402_PAY_TO": payments.PAY_TO, "X402_BOOTSTRAP_CIPHER_KEY": CIPHER_KEY,
    }  # fmt: skip
    redis = connect(stack.redis_url, 5.0)
    await vouch(redis, PARTITIONS)
    await redis.aclose()
    await local.start_services([ServiceSpec(REPLAY, (sys.executable, "-m", "kite_replay.main"), env=settings, ready_within_s=60)])
    settings |= {"KITE_REPLAY_URL": local.addresses.url(REPLAY)}
    await local.start_services([ServiceSpec(GATEWAY, (sys.executable, "-m", "kite_gateway.main"), env=settings, ready_within_s=60)])
    credentials, endpoints = (Publisher(kafka, topic.name, PARTITIONS) for topic in (CREDENTIALS, ENDPOINTS))
    async with running([credentials, endpoints]), aiohttp.ClientSession() as session:
        gateway = Gateway(stack, local.ports[GATEWAY], credentials, session, endpoints)
        team = await gateway.open(Account(month_limit=1 << 40, day_limit=1 << 40, balance=1 << 50))
        hook_token = await gateway.open_hook(team, HOOK)
        await eventually(
            lambda: gateway.status("GET", team.url(EVENTS), headers=team.bearer("read"), is_not=401),
            what="replay knows the keys",
            within_s=30,
        )
    yield Kite(local.addresses.url(GATEWAY), team, hook_token, schemathesis.openapi.from_dict(DOCUMENT))
    for name in (GATEWAY, REPLAY):
        await local.child(name).stop()


def test_every_good_request_is_answered_as_documented(kite: Kite) -> None:
    told = {"team_id": kite.team.id}
    for method, path, body, status in (
        ("POST", SEND, MESSAGE, 202), ("PUT", CONFIG, WANTED, 200), ("GET", CONFIG, None, 200), ("DELETE", CONFIG, None, 200),
        ("GET", CONFIG, None, 404), ("GET", EVENTS, None, 200),
    ):  # fmt: skip
        given_body = {} if body is None else {"body": body, "media_type": "application/json"}
        case = kite.contract[path][method].Case(query=dict(told), headers=dict(kite.team.bearer()), **given_body)
        assert (method, path, kite.ask(case)) == (method, path, status)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "method", "path"), ASKED)
def test_any_request_is_answered_as_documented(mode: GenerationMode, method: str, path: str, kite: Kite) -> None:
    asked = kite.contract[path][method.upper()].as_strategy(generation_mode=mode)
    seen: Counter[int] = Counter()

    @settings(max_examples=FEWER_EXAMPLES.get(path, EXAMPLES), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=asked, ours=MOSTLY, known=MOSTLY, reachable=st.booleans())
    def explore(case: Case[Any], ours: bool, known: bool, reachable: bool) -> None:
        if ours:
            case.query = dict(case.query or {}) | {"team_id": kite.team.id}
        is_hook = path.startswith("/hooks/")
        if is_hook and ours:
            given = {"team_id": kite.team.id, "source": HOOK, "hook_token": kite.hook_token}
            case.path_parameters = {name: given[name] for name in case.path_parameters}
        # No text made up at random is a URL: without a good one nothing behind that check would be seen.
        if reachable and path == CONFIG and isinstance(case.body, dict):
            case.body = {**case.body, "url": str(WANTED["url"])}
        good = f"Bearer {kite.hook_token}" if is_hook else kite.team.bearer()["Authorization"]
        case.headers["Authorization"] = good if known else "Bearer nobody"
        seen[kite.ask(case)] += 1

    explore()
    assert sum(seen.values()) >= 1
    assert seen.keys() - {401, 503}, "every request was turned away at the door"
