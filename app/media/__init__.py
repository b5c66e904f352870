"""Looks at the files that inputs name before any money is held, at as few bytes as possible."""
