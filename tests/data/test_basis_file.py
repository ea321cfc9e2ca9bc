"""Bases that a user writes: what files may hold, and what is said of bad ones."""

import numpy as np
import pytest
from distributions import dense

from dga_jax.data.basis_file import load_basis
from dga_jax.errors import UserError

DOMAINS = ("code", "law", "news", "prose")
MATRIX = np.array([[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0]])


@pytest.fixture
def write(tmp_path):
    """Writes what is given as `basis.npz`, or `basis.npy`; returns the path."""

    def write_file(matrix, **fields):
        if not fields:
            path = tmp_path / "basis.npy"
            np.save(path, matrix)
            return path
        path = tmp_path / "basis.npz"
        np.savez(path, **fields if matrix is None else {"P": matrix, **fields})
        return path

    return write_file


def test_npy(write):
    basis = load_basis(write(MATRIX), DOMAINS)
    np.testing.assert_allclose(dense(basis), MATRIX)
    assert basis.names == ("basis_0", "basis_1")


def test_npz_with_names(write):
    path = write(MATRIX, names=["mostly code", "law and news"])
    basis = load_basis(str(path), DOMAINS)
    np.testing.assert_allclose(dense(basis), MATRIX)
    assert basis.names == ("mostly code", "law and news")


def test_columns_come_in_the_stores_order(write):
    order = [2, 0, 3, 1]
    path = write(MATRIX[:, order], domains=[DOMAINS[j] for j in order])
    np.testing.assert_allclose(dense(load_basis(path, DOMAINS)), MATRIX)


def test_rows_are_normalised_to_float64(write):
    sums = MATRIX * np.array([[1 + 5e-5], [1 - 5e-5]])
    basis = load_basis(write(sums.astype(np.float32)), DOMAINS)
    assert dense(basis).dtype == np.float64
    np.testing.assert_allclose(dense(basis).sum(axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(dense(basis), MATRIX, atol=1e-6)


def test_identity_of_integers(write):
    basis = load_basis(write(np.eye(4, dtype=np.int64)), DOMAINS)
    np.testing.assert_array_equal(basis.mix([0.1, 0.2, 0.3, 0.4]), [0.1, 0.2, 0.3, 0.4])


def changed(value):
    matrix = MATRIX.copy()
    matrix[1, 2] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "fields", "message"),
    [
        (MATRIX[:, :3], {}, "3 columns, but the store's level has 4 domains"),
        (MATRIX[0], {}, r"P has shape \(4,\), expected \[N, k\]"),
        (MATRIX[:0], {}, r"P has shape \(0, 4\)"),
        (changed(0.6), {}, r"row 1 \(basis_1\) is no distribution: .* sum to 1.1"),
        (changed(np.nan), {}, "row 1 .* is no distribution"),
        (changed(np.inf), {}, "row 1 .* is no distribution"),
        (np.array([[0.7, 0.5, -0.1, -0.1]]), {}, "row 0 .* must be ≥ 0"),
        (np.zeros((1, 4)), {}, "row 0 .* they sum to 0"),
        (MATRIX.astype(complex), {}, "P does not hold numbers"),
        (MATRIX.astype(str), {}, "P does not hold numbers"),
        (MATRIX.astype(object), {}, "not a whole file of numbers"),
        (MATRIX.astype(object), {"names": ["a", "b"]}, "not a whole file of numbers"),
        (None, {"Q": MATRIX}, "no array named P"),
        (MATRIX, {"names": ["a", "a"]}, "2 rows of P need as many distinct names"),
        (MATRIX, {"names": ["a"]}, "distinct names, got 1"),
        (MATRIX, {"names": "a"}, "distinct names, got 1"),
        (MATRIX, {"domains": DOMAINS[:3]}, "3 domains named, 4 columns"),
        (MATRIX, {"domains": (*DOMAINS[:3], "poetry")}, "it lacks 'prose'"),
        (
            np.c_[MATRIX, [0, 0]],
            {"domains": (*DOMAINS, "poetry")},
            "it names 'poetry'",
        ),
        (np.c_[MATRIX, [0, 0]], {"domains": (*DOMAINS, "law")}, "named twice"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(write, matrix, fields, message):
    path = write(matrix, **fields)
    with pytest.raises(UserError, match=message) as error:
        load_basis(path, DOMAINS)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a whole file of numbers"),
        (b"0.5, 0.5, 0.0, 0.0\n", "not a whole file of numbers"),
        (b"PK\x03\x04 and no archive", "not a whole file of numbers"),
    ],
)
def test_files_of_something_else(tmp_path, content, message):
    path = tmp_path / "basis.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_basis(path, DOMAINS)
    assert "\n" not in str(error.value)


def test_a_directory(tmp_path):
    with pytest.raises(UserError, match=r"basis .*: Is a directory"):
        load_basis(tmp_path, DOMAINS)


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_that_were_cut_or_changed(tmp_path, compressed):
    path, damaged = tmp_path / "whole.npz", tmp_path / "damaged.npz"
    (np.savez_compressed if compressed else np.savez)(path, P=MATRIX)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        damaged.write_bytes(content[:size])
        with pytest.raises(UserError, match="not a whole file of numbers"):
            load_basis(damaged, DOMAINS)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        damaged.write_bytes(flipped)
        try:  # a flag of the archive that nobody reads may change unnoticed
            matrix = dense(load_basis(damaged, DOMAINS))
        except UserError:
            continue
        np.testing.assert_allclose(matrix, MATRIX)
