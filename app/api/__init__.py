"""The HTTP edge: one file per resource, and what all of them share."""
