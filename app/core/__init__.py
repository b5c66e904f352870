"""What every room may use: time, ids, the error tree, logging, batching; it uses no room."""
