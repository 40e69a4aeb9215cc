"""perdure: an object database for Python."""
