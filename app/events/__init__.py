"""The log of what happened to jobs, written in the very transaction that made it happen."""
