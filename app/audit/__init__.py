"""The record of what operators did, written in the transaction that did it."""
