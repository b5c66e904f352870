"""A gateway in front of RunComfy's Model API: keys, limits and durable jobs for a whole team."""
