"""What becomes of a request to a hook: who may deliver, what its body is, and the CloudEvent it makes. Values in, values out."""
