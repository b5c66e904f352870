"""The composition root: settings in, services and workers out, closed in reverse."""
