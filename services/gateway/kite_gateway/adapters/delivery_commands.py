"""DeliveryCommands over kite.deliveries.commands. Returns after the acknowledgement."""

from collections.abc import Callable

from kite_common.events.codec import encode
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import TeamId
from kite_common.log_position import kiteseq
from kite_common.runtime.spans import Tracer
from kite_common.stream.ends import Ends
from kite_common.stream.record_spans import open_send, sent
from kite_common.topics import DELIVERY_COMMANDS
from kite_gateway.adapters.message_log import Publishes
from kite_gateway.adapters.place import Place


class KafkaDeliveryCommands:
    """`new_ends` asks where the topic of events ends, over a connection of its own: tests are rare, so none is kept.

    With a `tracer` the order of a sampled trace carries the span of its own publishing.
    """

    def __init__(
        self, publisher: Publishes, place_of: Callable[[TeamId], Place], new_ends: Callable[[], Ends], tracer: Tracer | None = None
    ) -> None:
        self._publisher, self._place_of, self._new_ends, self._tracer = publisher, place_of, new_ends, tracer

    async def place_now(self, team_id: TeamId) -> int:
        """The kiteseq that the next event of the team's partition would have. Raises Unavailable."""
        partition, ends = self._place_of(team_id).partition, self._new_ends()
        try:
            return kiteseq((await ends.now([partition]))[partition], partition)
        finally:
            await ends.close()

    async def give(self, order: DeliveryOrdered, *, not_after_ms: int) -> None:
        """Durable on return. Raises Unavailable (nothing written, also later) or OutcomeOpen."""
        partition, topic = self._place_of(TeamId(order.team_id)).partition, DELIVERY_COMMANDS.name
        span = None if self._tracer is None else open_send(self._tracer, order.traceparent, topic)
        if span is None:
            await self._publisher.publish(partition, (encode(order),), not_after_ms=not_after_ms)
            return
        traced = order.model_copy(update={"traceparent": span.context.header()})
        await sent(
            span, self._publisher.publish(partition, (encode(traced),), not_after_ms=not_after_ms), topic, partition, order.event_id
        )
