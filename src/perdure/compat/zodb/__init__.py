"""perdure, by the name of ZODB."""
