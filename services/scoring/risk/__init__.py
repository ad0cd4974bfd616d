"""Loyalty risk: base rate from the customer's own rhythm, evidence felt, bands, reasons. Pure."""
