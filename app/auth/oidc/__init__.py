"""Users of an identity provider: its tokens verified, its users created on first use."""
