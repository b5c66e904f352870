"""What keeps calls from going to RunComfy: refusals, failures, a Retry-After, an operator's pause.

A lane is a circuit breaker and a rate, which all replicas share.
"""
