"""Jobs: what they are, how they move, and every transaction that moves them."""
