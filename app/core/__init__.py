"""What every room may use: time, identifiers, the error tree, logging, batching. No rooms."""
