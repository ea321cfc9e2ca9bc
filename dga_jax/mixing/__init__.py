"""The method: signals, updates on the simplex, and the named recipes made of them.

Read in this order: `alignment` (what is measured), `simplex` (how weights move),
`mixers` (the rules a config names), `recipe` (what is put around each of them).
"""
