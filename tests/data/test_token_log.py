import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dga_jax.data.token_log import TokenLog, count_rows, cut_rows

PAD = 65535
pieces = st.lists(hnp.arrays(np.uint16, st.integers(0, 9), elements=st.integers(0, 9)))


@given(pieces=pieces, seq_len=st.integers(1, 12))
def test_rows_hold_the_stream_and_predict_each_token_once(pieces, seq_len):
    stream = np.concatenate([*pieces, np.zeros(0, np.uint16)])
    blocks = list(cut_rows(pieces, seq_len, PAD))
    rows = np.concatenate([*blocks, np.zeros((0, seq_len + 1), np.uint16)])
    assert len(rows) == count_rows(len(stream), seq_len)
    targets = rows[:, 1:].ravel()
    assert targets[targets != PAD].tolist() == stream[1:].tolist()
    inputs = rows[:, :-1][rows[:, 1:] != PAD]
    assert inputs.tolist() == stream[:-1].tolist()
    padding = rows == PAD
    assert not padding[:-1].any()
    assert (np.diff(padding[-1:].astype(int)) >= 0).all()


@given(
    appends=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=30),
    buffered=st.integers(1, 60),
    data=st.data(),
)
def test_log_gives_back_any_part_of_any_stream(
    tmp_path_factory, appends, buffered, data
):
    path = tmp_path_factory.mktemp("log") / "tokens"
    log = TokenLog(path, np.uint16, buffered)
    expected = {stream: [] for stream in range(4)}
    for stream, count in appends:
        tokens = np.arange(count) + len(expected[stream])
        log.append(stream, tokens)
        expected[stream] += tokens.tolist()
    for stream, tokens in expected.items():
        assert log.length(stream) == len(tokens)
        start = data.draw(st.integers(0, len(tokens)))
        stop = data.draw(st.integers(start, len(tokens)))
        read = [token for piece in log.read(stream, start, stop) for token in piece]
        assert read == tokens[start:stop]


def test_log_of_many_streams_is_one_file(tmp_path):
    log = TokenLog(tmp_path / "tokens", np.uint16, buffered=5000)
    for round_ in range(3):
        for stream in range(5000):
            log.append(stream, np.array([stream, round_]))
    assert [p.name for p in tmp_path.iterdir()] == ["tokens"]
    pieces = list(log.read(4999))
    assert np.concatenate(pieces).tolist() == [4999, 0, 4999, 1, 4999, 2]
