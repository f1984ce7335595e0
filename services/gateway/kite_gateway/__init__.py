"""The gateway: the HTTP surface of Kite. It authenticates, admits and publishes; it settles, delivers and archives nothing."""
