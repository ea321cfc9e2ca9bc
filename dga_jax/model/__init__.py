"""The transformer and its loss; neither knows of data, mixtures or the loop."""
