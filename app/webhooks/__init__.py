"""Webhooks: endpoints and secrets, what is to be delivered, and how it went."""
