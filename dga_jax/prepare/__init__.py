"""From the user's text to a store that can be trained on."""
