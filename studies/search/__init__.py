"""Searching: scoring a stage, judging it, choosing, going on to the next."""
