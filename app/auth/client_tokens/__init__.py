"""Client tokens: short-lived credentials for browser apps, weaker than the key that made them."""
