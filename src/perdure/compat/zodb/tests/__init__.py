"""What the test suites of other packages use; more of it where stock ZODB is installed."""
