"""A pepper is changed under running gateways: keys and tokens of before stay good beside the retired one, and end when it is taken away."""

import uuid

from kite_common import auth
from kite_common.events.credentials import CredentialIssued
from kite_common.runtime.system import SystemClock, random_bytes
from support.gateway import CONFIG, PEPPER, Gateway, Team, running_gateway
from support.stack import RunningStack

NEW = "the pepper that comes after it"


async def _issued_under(gateway: Gateway, team: Team, pepper: str) -> dict[str, str]:
    text = auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
    await gateway.issue(CredentialIssued(
        team_id=team.id, id=str(uuid.uuid4()), prefix=auth.parse_api_key(text).prefix, credential="api_key", name="new",
        secret_hash=auth.hash_secret(pepper.encode(), text), permissions=("write",), created_at=SystemClock().unix_ms(),
    ))  # fmt: skip
    return {"Authorization": f"Bearer {text}"}


async def test_what_was_issued_before_stays_good_until_the_retired_pepper_goes(gateway: Gateway, stack: RunningStack) -> None:
    team = await gateway.open()
    token = await gateway.open_hook(team, "acme")
    hook, json = f"/hooks/{team.id}/acme/{token}", {"Content-Type": "application/json"}
    async with running_gateway(stack, api_key_pepper=NEW, api_key_retired_pepper=PEPPER) as changed:
        new = await _issued_under(changed, team, NEW)
        await changed._known(new, team.url(CONFIG))
        await changed._known(team.bearer(), team.url(CONFIG))
        assert await changed.status("POST", hook, data=b"", headers=json, is_not=401)
        assert not await gateway.status("GET", team.url(CONFIG), headers=new, is_not=401), "one that was not changed yet"
        assert await gateway.status("GET", team.url(CONFIG), headers=team.bearer(), is_not=401)
    async with running_gateway(stack, api_key_pepper=NEW) as final:
        await final._known(new, team.url(CONFIG))
        assert not await final.status("GET", team.url(CONFIG), headers=team.bearer(), is_not=401)
        assert not await final.status("POST", hook, data=b"", headers=json, is_not=401)
