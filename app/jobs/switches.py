"""The names of what operators switch for all replicas."""

DISPATCH_PAUSED = "dispatch_paused"
