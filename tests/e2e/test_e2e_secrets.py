"""Secrets are planted wherever a caller can put one, on every route, all lines logged and traces kept: no log, error or span has any."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from kite_cli.admin.hooks import create_hook
from kite_cli.local.environment import PARTITIONS
from kite_cli.target import LogTarget
from kite_common import auth
from kite_common.crypto import new_webhook_secret
from kite_common.ids import TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Receiver
from kite_delivery.testing.receiver import answer as receiver_answers
from support.collector import Collector
from support.kite import SERVICES, Kite, ServersFor, Team, kite

ROUTES: Final = json.loads((Path(__file__).parents[2] / "contracts/openapi.json").read_text("utf-8"))["paths"]
# Of no form that could be known: nobody masks these, they must not be written at all.
BODY, QUERY, PASSWORD, COOKIE, SIGNED, CLAIM, ANSWERED = (
    f"planted-{what}-5f0c1d7e" for what in ("body", "query", "password", "cookie", "signed", "claim", "answered")
)
SHAPELESS_KEY, SHAPELESS_TOKEN, SHAPELESS_SECRET = "planted key 71c9", "planted-token-83ab", "planted secret 4d2f, long enough"
# Of the right form, and known to nobody.
WRONG_KEY, WRONG_TOKEN = auth.new_api_key(random_bytes(auth.RANDOM_BYTES)), auth.new_hook_token(random_bytes(auth.RANDOM_BYTES))
PAYMENT: Final = base64.b64encode(json.dumps({
    "x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": {"signature": SIGNED, "authorization": {"from": CLAIM}},
}).encode()).decode()  # fmt: skip


class Scene:
    """A team with a webhook and a hook, and everything secret about them."""

    def __init__(self, whole: Kite, team: Team, token: str, secret: str, collector: Collector) -> None:
        self.whole, self.team, self.token, self.secret, self.collector = whole, team, token, secret, collector

    @property
    def planted(self) -> list[str]:
        """What must be nowhere. Of keys and tokens the part behind the public prefix."""
        keys = [one.rpartition("_")[2] for one in (self.team.key, WRONG_KEY, self.token, WRONG_TOKEN)]
        shapeless = [BODY, QUERY, PASSWORD, COOKIE, SIGNED, CLAIM, ANSWERED, SHAPELESS_KEY, SHAPELESS_TOKEN, SHAPELESS_SECRET, PAYMENT]
        return [*keys, *shapeless, self.secret.removeprefix("whsec_"), *self.whole.local.secrets.values()]

    def authorizations(self) -> Iterator[dict[str, str]]:
        for key in (self.team.key, WRONG_KEY, SHAPELESS_KEY):
            yield {"Authorization": f"Bearer {key}"}
        yield {"Authorization": f"Basic {base64.b64encode(SHAPELESS_KEY.encode()).decode()}"}

    def paths(self, path: str) -> Iterator[str]:
        for token in (self.token, WRONG_TOKEN, SHAPELESS_TOKEN) if "{hook_token}" in path else ("",):
            yield path.replace("{team_id}", self.team.id).replace("{source}", "acme").replace("{hook_token}", token).replace("{id}", QUERY)

    def bodies(self) -> Iterator[bytes]:
        wanted = {"url": f"https://user:{PASSWORD}@example.com/", "secret": SHAPELESS_SECRET}
        message = {"from": "a", "to": "b", "body": BODY}
        for body in (wanted, message, {"secret": SHAPELESS_SECRET, "plan_id": BODY, BODY: 1}):
            yield json.dumps(body).encode()
        yield f'{{"secret": "{SHAPELESS_SECRET}", "body": {BODY}'.encode()


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with Collector().listening() as listening:
        yield listening


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory, servers_for: ServersFor, collector: Collector) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("secrets")
    env = {"KITE_LOG_LEVEL": "debug", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "KITE_TRACE_RATIO": "1"}
    async with servers_for(folder) as servers, kite(folder / "data", SERVICES, env, servers) as whole, Receiver().listening() as receiver:
        [team] = await whole.teams(1)
        secrets, addresses, secret = whole.local.secrets, whole.local.addresses, new_webhook_secret(random_bytes(32))
        target = LogTarget(
            addresses.kafka_bootstrap, addresses.redis_url, PARTITIONS, 1, secrets["KITE_API_KEY_PEPPER"],
            secrets["KITE_HOOK_SECRET_CIPHER_KEY"],
        )  # fmt: skip
        hook = await create_hook(target, shipped_catalog(), TeamId(team.id), "acme", None)
        scene = Scene(whole, team, hook.token, secret, collector)
        async with httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
            await _delivered(scene, client, receiver)
            yield scene


async def _delivered(scene: Scene, client: httpx.AsyncClient, receiver: Receiver) -> None:
    """A message is taken, and its webhook refused once with an answer that has a secret in it."""
    team = {"team_id": scene.team.id}
    receiver.behaviour = lambda _received: receiver_answers(500, ANSWERED.encode())

    async def configured() -> bool:
        wanted = {"url": receiver.url, "secret": scene.secret}
        return (await client.put("/api/v1/webhook-config", params=team, headers=scene.team.headers, json=wanted)).status_code == 200

    await eventually(configured, within_s=30, what="the key is known")
    message = {"from": "a", "to": "b", "body": BODY}
    answer = await client.post("/api/v1/agents/messages", params=team, headers=scene.team.headers, json=message)
    assert answer.status_code == 202, answer.text
    await eventually(lambda: receiver.received, within_s=30, what="an attempt was made")


async def _tried(scene: Scene, client: httpx.AsyncClient, method: str, path: str) -> list[httpx.Response]:
    planted = {
        "Cookie": f"session={COOKIE}", "X-PAYMENT": PAYMENT, "PAYMENT-SIGNATURE": PAYMENT, "X-Hub-Signature-256": f"sha256={SIGNED}",
        "Stripe-Signature": f"t=1,v1={SIGNED}", "Content-Type": "application/json",
    }  # fmt: skip
    query = {"team_id": scene.team.id, "since": QUERY, "limit": QUERY, "token": QUERY}
    bodies = [None] if method in ("GET", "HEAD") else list(scene.bodies())
    return [
        await client.request(method, one, params=query, headers=planted | key, content=body)
        for one in scene.paths(path) for key in scene.authorizations() for body in bodies
    ]  # fmt: skip


@pytest.mark.timeout(240)
async def test_no_log_no_error_and_no_span_has_a_secret(scene: Scene) -> None:
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(base_url=scene.whole.url, timeout=30) as client:
        for path, methods in ROUTES.items():
            for method in methods:
                answers += await _tried(scene, client, method.upper(), path)
    assert len(answers) > 200
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 404}
    assert [answer.request.url.path for answer in answers if answer.status_code == 500] == []
    told = [(answer.request.method, answer.request.url.path, one) for answer in answers if answer.is_error for one in _found(scene, answer)]
    assert told == []
    for name in SERVICES:
        await scene.whole.local.child(name).stop()
        log = scene.whole.local.child(name).log.read_text("utf-8", "replace")
        assert "service.started" in log
        assert [one for one in scene.planted if one in log] == [], name
    _check_spans(scene, len(answers))


def _check_spans(scene: Scene, requests: int) -> None:
    """What the services have exported until they stopped."""
    spans, sent = scene.collector.spans, b"".join(scene.collector.bodies)
    assert len([span for span in spans if span.kind == "server"]) > requests // 2
    assert {"send kite.events", "process kite.events", "POST"} <= {span.name for span in spans}
    assert {"POST /hooks/{team_id}/{source}/{hook_token}", "GET /api/v1/events"} <= {span.name for span in spans}
    assert [one for one in scene.planted if one.encode() in sent] == []


def _found(scene: Scene, answer: httpx.Response) -> list[str]:
    headers: dict[str, Any] = dict(answer.headers)
    whole = f"{headers} {answer.text}"
    return [one for one in scene.planted if one in whole]
