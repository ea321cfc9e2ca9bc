"""Many runs of one config that differ on named axes, and what comes out of them.

`spec` says what an experiment is, `plan` which runs it takes, `runner` trains them,
`results` is what is kept of each; `statistics`, `tables`, `figure` and `page` need
nothing but that.
"""
