"""Client tokens: short-lived credentials for browser apps, each less than the key that made it."""
