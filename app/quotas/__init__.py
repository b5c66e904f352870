"""Limits and money: what a request may use, and the ledger of what was used."""
