"""Tables, the engine, and the one way to run a transaction."""
