"""Signals in, calls out: rules decide who must hear what, delivery sees that they hear it, cases follow it up."""
