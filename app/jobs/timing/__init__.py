"""How long jobs take, as seen so far, and when each is polled next."""
