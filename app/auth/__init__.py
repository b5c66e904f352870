"""Who is calling: keys, and the principal that a valid one stands for."""
