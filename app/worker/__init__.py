"""The loops that move leased work: what clients were promised happens here."""
