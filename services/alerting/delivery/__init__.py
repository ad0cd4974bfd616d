"""Calls to receivers: what is sent, in which format, to which address, how often."""
