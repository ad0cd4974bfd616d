"""How `touchstone verify` and `touchstone rebuild` hold the stream's states to the table of events and to the log."""
