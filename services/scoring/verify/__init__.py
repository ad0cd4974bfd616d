"""The stream's states held to the log: folded anew, compared column by column. Pure."""
