"""RunComfy on the wire: the only room that knows its URLs and its vocabulary."""
