import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dga_jax.data import token_log
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
    lengths=st.lists(st.integers(0, 20), max_size=30),
    batch=st.integers(1, 7),
    data=st.data(),
)
def test_log_gives_back_any_part_of_any_documents(
    tmp_path_factory, lengths, batch, data
):
    log = TokenLog(tmp_path_factory.mktemp("log") / "tokens", np.uint16)
    documents = [np.arange(count) + 100 * i for i, count in enumerate(lengths)]
    for start in range(0, len(documents), batch):
        log.append(documents[start : start + batch])
    assert log.lengths.tolist() == lengths
    chosen = [i for i in range(len(lengths)) if data.draw(st.booleans())]
    joined = [token for i in chosen for token in documents[i].tolist()]
    start = data.draw(st.integers(0, len(joined)))
    stop = data.draw(st.integers(start, len(joined)))
    pieces = log.reader().read(np.array(chosen, np.int64), start, stop)
    assert [token for piece in pieces for token in piece] == joined[start:stop]


def test_long_documents_come_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(token_log, "_BUFFERED_TOKENS", 10)
    log = TokenLog(tmp_path / "tokens", np.uint16)
    log.append([np.arange(7)] * 5)
    pieces = list(log.reader().read(np.arange(5), 0, 35))
    assert [len(piece) for piece in pieces] == [14, 14, 7]
