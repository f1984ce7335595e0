"""Bodies of /verify and /settle: what is an order, and that nothing else is one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.x402.networks import asset_of, checksum
from kite_facilitator.adapters.http.orders import NotServed, parse_order
from kite_facilitator.domain.order import Served

ASSET = asset_of("eip155:84532")
PAY_TO, RETIRED, STRANGER = ("0x" + digit * 40 for digit in "346")
SERVED = Served(ASSET, frozenset({PAY_TO, RETIRED}))
AUTHORIZATION = {
    "from": "0x" + "AB" * 20, "to": PAY_TO, "value": 1_000_000, "validAfter": "0", "validBefore": "1790000000", "nonce": "0x" + "AA" * 32,
}  # fmt: skip
SIGNED = {"signature": "0x" + "11" * 65, "authorization": AUTHORIZATION}


def body(version: int = 2, *, pay_to: str = PAY_TO, **changed: Any) -> dict[str, Any]:
    common = {"scheme": "exact", "asset": ASSET.checksum, "payTo": checksum(pay_to), "maxTimeoutSeconds": 300, "extra": {"name": "USDC"}}
    if version == 1:
        wanted = common | {"network": "base-sepolia", "maxAmountRequired": "1000000", "resource": "http://x/"} | changed
        payment = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": SIGNED}
    else:
        wanted = common | {"network": ASSET.network, "amount": "1000000"} | changed
        payment = {"x402Version": 2, "accepted": wanted, "payload": SIGNED}
    return {"x402Version": version, "paymentPayload": payment, "paymentRequirements": wanted}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pay_to", [PAY_TO, RETIRED])
def test_both_versions_are_orders_in_canonical_form(version: int, pay_to: str) -> None:
    order = parse_order(json.dumps(body(version, pay_to=pay_to)).encode(), SERVED)
    assert (order.version, order.amount, order.pay_to, order.max_timeout_s) == (version, 1_000_000, pay_to, 300)
    assert order.key == ("0x" + "ab" * 20, "0x" + "aa" * 32)
    assert order.authorization.value == "1000000"
    assert order.network_name(ASSET) == ("base-sepolia" if version == 1 else "eip155:84532")
    assert "1111" not in repr(order)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "changed", [{"scheme": "upto"}, {"network": "eip155:8453"}, {"asset": "0x" + "12" * 20}, {"payTo": STRANGER}]
)
def test_what_is_paid_to_others_is_not_served(version: int, changed: dict[str, Any]) -> None:
    with pytest.raises(NotServed):
        parse_order(json.dumps(body(version, **changed)).encode(), SERVED)


@given(st.binary(max_size=200))
def test_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_order(data, SERVED)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(["0x", "0x" + "1" * 40, "exact", "eip155:1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([1, 2]), st.data())
def test_a_changed_request_is_an_order_malformed_or_not_served_and_nothing_else(version: int, data: st.DataObject) -> None:
    request: Any = json.loads(json.dumps(body(version)))
    inner = request
    while True:
        name = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[name], dict) or data.draw(st.booleans()):
            break
        inner = inner[name]
    inner[name] = data.draw(_JSON)
    try:
        order = parse_order(json.dumps(request).encode(), SERVED)
    except (Malformed, NotServed):
        return
    assert order.pay_to in SERVED.recipients
    assert order.amount >= 0
