"""Inspects the files that inputs name, before any money is held, by as few bytes as possible."""
