"""Users of an identity provider: its tokens verified, its users made on first sight."""
