"""The record of what operators did, written in the very transaction that did it."""
