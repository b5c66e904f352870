"""RunComfy on the wire: the only room that knows its addresses and its words."""
