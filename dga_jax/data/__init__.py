"""What training reads: a store, its rows in the order they are drawn, its bases."""
