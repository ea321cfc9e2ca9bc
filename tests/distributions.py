"""Bases as the arrays that they stand for."""


def dense(basis):
    """P: float64 [N, k]."""
    return basis.own.toarray() + basis.shares[:, None] * basis.common
