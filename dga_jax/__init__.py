"""Pretraining of language models whose data mixture steers itself towards a target."""
