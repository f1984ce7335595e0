"""From the body of /verify and /settle to a payment: the SDK's own models, both protocol versions. Calls nothing."""

from typing import Any

import orjson
from pydantic import ValidationError
from x402.schemas import PaymentPayload, PaymentPayloadV1, PaymentRequirements, PaymentRequirementsV1

from kite_common.errors import Malformed
from kite_common.x402.networks import checksum
from kite_facilitator.application.ports import Payment
from kite_facilitator.domain.scope import Wanted


def read_payment(body: bytes) -> Payment:
    """The payment of a request. Addresses get their EIP-55 casing, as web3 refuses any other. Raises Malformed, without what was sent."""
    try:
        content = orjson.loads(body)
        payment, requirements = content["paymentPayload"], content["paymentRequirements"]
        is_v1 = payment.get("x402Version") == 1
        authorization = payment["payload"]["authorization"]
        authorization |= {name: checksum(authorization[name]) for name in ("from", "to")}
        requirements |= {name: checksum(requirements[name]) for name in ("asset", "payTo")}
        payload = (PaymentPayloadV1 if is_v1 else PaymentPayload).model_validate(payment)
        parsed: Any = (PaymentRequirementsV1 if is_v1 else PaymentRequirements).model_validate(requirements)
        wanted = Wanted(
            parsed.scheme, parsed.network, parsed.asset, parsed.pay_to, authorization["from"], str(authorization["nonce"])
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValidationError, Malformed):
        raise Malformed("the body is no x402 request of scheme exact") from None
    return Payment(payload, parsed, wanted)
