"""The method: signals, updates on the simplex, and the named recipes made of them.

Read in this order: `alignment` (what is measured), `simplex` (how weights move),
`mixers` (the recipes a config names), `basis` (many domains through few weights).
"""
