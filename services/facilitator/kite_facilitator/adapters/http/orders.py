"""The body of /verify and /settle as an Order. Checked by the SDK's models, then canonical; what the caller wrote goes no further."""

import re
from typing import Any, Final, Literal

from pydantic import ValidationError
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from kite_common.errors import KiteError, Malformed
from kite_common.events.payments import Authorization
from kite_common.x402.networks import parse_address
from kite_common.x402.strict_json import object_of_json
from kite_common.x402.wire import SCHEME, parse_signed
from kite_facilitator.domain.order import Order, Served

_AMOUNT: Final = re.compile("[0-9]{1,78}")


class NotServed(KiteError):
    """A payment to somebody else, in another token, or by another scheme."""


def parse_order(body: bytes, served: Served) -> Order:
    """The order in a request's body. Raises Malformed if it is none, NotServed if it is not of the deployment that is served."""
    content = object_of_json(body)
    version, payload, wanted = content.get("x402Version"), content.get("paymentPayload"), content.get("paymentRequirements")
    if not isinstance(payload, dict) or not isinstance(wanted, dict) or payload.get("x402Version", version) != version:
        raise Malformed("paymentPayload and paymentRequirements are objects of one version")
    try:
        if version == 1:
            return _order_v1(PaymentPayloadV1.model_validate(payload), PaymentRequirementsV1.model_validate(wanted), served)
        if version == 2:  # noqa: PLR2004 - the version of the protocol
            return _order_v2(PaymentPayload.model_validate(payload), PaymentRequirements.model_validate(wanted), served)
    except ValidationError:
        raise Malformed(f"not the shapes of x402 version {version}") from None
    raise Malformed("x402Version is neither 1 nor 2")


def _order_v1(payment: PaymentPayloadV1, wanted: PaymentRequirementsV1, served: Served) -> Order:
    _check({payment.scheme, wanted.scheme}, {payment.network, wanted.network}, served.asset.v1_network)
    return _order(1, payment.payload, wanted, wanted.max_amount_required, served)


def _order_v2(payment: PaymentPayload, wanted: PaymentRequirements, served: Served) -> Order:
    accepted = payment.accepted
    _check({accepted.scheme, wanted.scheme}, {accepted.network, wanted.network}, served.asset.network)
    _check_recipient(accepted.asset, accepted.pay_to, served)
    return _order(2, payment.payload, wanted, wanted.amount, served)


def _order(
    version: Literal[1, 2], payload: dict[str, Any], wanted: PaymentRequirements | PaymentRequirementsV1, amount: str, served: Served
) -> Order:
    _check_recipient(wanted.asset, wanted.pay_to, served)
    if not _AMOUNT.fullmatch(amount):
        raise Malformed("the amount is not a decimal integer")
    authorization, signature = _signed(payload)
    return Order(version, authorization, signature, parse_address(wanted.pay_to), int(amount), wanted.max_timeout_seconds)


def _signed(payload: dict[str, Any]) -> tuple[Authorization, str]:
    # Another kind of payload beside the authorization would be preferred by the SDK.
    if set(payload) != {"signature", "authorization"}:
        raise Malformed("a payload is signature and authorization")
    return parse_signed(payload)


def _check(schemes: set[str], networks: set[str], network: str) -> None:
    if schemes != {SCHEME}:
        raise NotServed("only scheme exact is settled here")
    if networks != {network}:
        raise NotServed(f"only {network} is settled here")


def _check_recipient(asset: str, pay_to: str, served: Served) -> None:
    if parse_address(asset) != served.asset.address:
        raise NotServed("another token is settled here")
    if parse_address(pay_to) not in served.recipients:
        raise NotServed("only payments to this deployment are settled here")
