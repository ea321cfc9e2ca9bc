"""Trains on a store: from a config to the last checkpoint."""
