"""Which models there are, what each takes, and whether an input fits before money is spent."""
