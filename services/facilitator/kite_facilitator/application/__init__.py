"""The facilitator's use cases: an order in, an answer out. No HTTP words, no chain client."""
