"""Limits and money: what a request may take, and the ledger of what was taken."""
