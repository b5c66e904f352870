"""The log of what happened to jobs, written in the transaction that made it happen."""
