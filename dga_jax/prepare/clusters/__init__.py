"""Clusters of documents: embeddings, hierarchical k-means, histograms."""
