"""Where the gateway meets the network: which addresses may be named, and every HTTP client."""
