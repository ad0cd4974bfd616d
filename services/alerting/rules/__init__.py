"""The rules file: what may be asked, how it is written, how it is read."""
