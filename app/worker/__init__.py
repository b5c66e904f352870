"""The loops that do leased work: here happens what clients were promised."""
