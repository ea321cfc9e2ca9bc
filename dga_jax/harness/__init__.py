"""EleutherAI's lm-eval on a model of ours, on its mesh, without PyTorch.

`lm_eval` itself is imported where it is used: it is an extra, `eval`.
"""
