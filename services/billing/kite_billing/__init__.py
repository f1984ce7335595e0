"""Billing: the only writer of accounts and the ledger. Serves no public API, touches no message body."""
