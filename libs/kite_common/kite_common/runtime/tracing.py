"""Whether a process makes traces. The SDK of OpenTelemetry is loaded here and nowhere else, and only where it does."""

from dataclasses import dataclass

from kite_common.config import KiteSettings
from kite_common.runtime.component import Component
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.spans import Tracer


@dataclass(frozen=True, slots=True)
class Tracing:
    """What a service needs for it: what its parts are given, and what runs first, so that it stops last. Off: None, and nothing."""

    tracer: Tracer | None = None
    components: tuple[Component, ...] = ()

    @property
    def ratio(self) -> float:
        """The part of the traces beginning here that is sampled: none while it is off."""
        return 0.0 if self.tracer is None else self.tracer.ratio


def tracing(settings: KiteSettings, service: str, metrics: Metrics) -> Tracing:
    """On if OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    endpoint, headers = settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_headers
    if endpoint is None:
        return Tracing()
    from kite_common.runtime.span_export import SpanExport, otlp_exporter, resource_of

    exporter = otlp_exporter(endpoint, None if headers is None else headers.get_secret_value())
    export = SpanExport(exporter, resource_of(service, settings.instance), metrics)
    return Tracing(Tracer(settings.trace_ratio, export), (export,))
