"""What a request for a page says about paying, where this server takes no payments: nothing."""

from typing import Final

from kite_common.errors import ApiError
from kite_replay.application.ports import Paid
from kite_replay.domain.paid import Due, Priced

_RETRY_S: Final = 2


class ClosedTill:
    """A Till that ignores payments and, where one would be asked for, says that none is taken."""

    shows_payment = False
    quoted: Priced | None = None

    def payment_required(self, priced: Priced) -> ApiError:  # noqa: ARG002 - whatever it costs
        """503 `x402_unconfigured`."""
        return ApiError("x402_unconfigured", retry_after_s=_RETRY_S)

    async def pay(self, due: Due) -> Paid | None:  # noqa: ARG002 - there is no payment
        """The request goes on without one."""
        return None
