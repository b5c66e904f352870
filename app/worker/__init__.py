"""The loops that do leased work, and those that keep house."""
