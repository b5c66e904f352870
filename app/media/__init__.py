"""Looks at the files that inputs name before any money is held: as few bytes of them as will do."""
