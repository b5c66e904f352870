"""The names of what operators can switch for all replicas."""

DISPATCH_PAUSED = "dispatch_paused"
