"""What two or more Kite services share: wire contracts, the stream processor, the runtime. No service's own rules."""

VERSION = "0.1.0"
