import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.errors import UserError
from dga_jax.sharding import make_mesh, probe_shards
from dga_jax.training import config as configs
from dga_jax.training import validation
from dga_jax.training.config import apply_argument, default_config


def with_field(name, value):
    config = default_config()
    group, _, leaf = name.rpartition(".")
    (config[group] if group else config)[leaf] = value
    return config


def test_the_defaults_are_valid():
    validation.validate(default_config())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.steps", 0),
        ("train.steps", -3),
        ("train.batch_size", 0),
        ("train.microbatches", 0),
        ("train.seq_len", -1),
        ("train.loss_chunk", -1),
        ("model.remat", "some"),
        ("model.num_layers", 0),
        ("model.d_model", 0),
        ("model.num_heads", 0),
        ("model.num_kv_heads", -1),
        ("mixer.interval", 0),
        ("mixer.probe_rows", 0),
        ("mixer.target_rows", 0),
        ("mixer.eta", -1.0),
        ("mixer.eta", float("nan")),
        ("mixer.beta", 0.0),
        ("mixer.beta", 1.5),
        ("mixer.beta_end", 0.0),
        ("mixer.name", "dgaa"),
        ("mixer.estimator", "backward"),
        ("mixer.floor", -0.1),
        ("optimizer.learning_rate", 0.0),
        ("optimizer.learning_rate", float("inf")),
        ("optimizer.schedule", "linear"),
        ("optimizer.b1", 1.0),
        ("optimizer.b2", 1.0),
        ("optimizer.warmup_steps", -2),
        ("data.max_epochs", -1),
        ("data.threads", 0),
        ("eval.rows", 0),
        ("checkpoint.keep", 0),
        ("log.every", 0),
        ("model.dtype", "float16"),
        ("seed", -1),
        ("seed", 2**32),  # whose model would be that of seed 0
        ("data.max_epochs", 2**31),  # times rows: beyond int64
        ("data.tokens_per_domain", 2**53 + 1),
        ("eval.every", -(2**70)),
    ],
)
def test_an_invalid_field_is_named(field, value):
    with pytest.raises(UserError, match=rf"config\.{field}=.*{value}") as caught:
        validation.validate(with_field(field, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model.num_heads", 7, "even multiple"),
        ("model.num_kv_heads", 5, "must divide"),
        ("train.microbatches", 7, "multiple of"),
    ],
)
def test_fields_that_do_not_go_together(field, value, words):
    with pytest.raises(UserError, match=words):
        validation.validate(with_field(field, value))


def test_probe_domains_with_a_basis():
    config = with_field("mixer.basis", "P.npy")
    config.mixer.probe_domains = 3
    with pytest.raises(UserError, match="probe_domains"):
        validation.validate(config)


def test_batch_against_mesh():
    config = default_config()
    config.train.update(batch_size=24, microbatches=2)
    for shards in (1, 2, 4, 12):
        validation.check_batch(config, shards)
    with pytest.raises(UserError, match=r"12 rows, not a multiple of .* = 8"):
        validation.check_batch(config, 8)


def test_arguments():
    config = apply_argument(
        default_config(), "debug,train.steps=7,model.tied_embeddings=false,seed=3"
    )
    assert config.train.steps == 7
    assert config.model.tied_embeddings is False
    assert config.seed == 3
    assert config.model.num_layers == 2
    assert set(config.explicit) == {"train.steps", "model.tied_embeddings", "seed"}
    assert apply_argument(default_config(), None).explicit == ()
    for text in ("0.5", "2"):
        config = apply_argument(default_config(), f"mixer.eta={text}")
        assert config.mixer.eta == float(text)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("debgu", "'debgu': expected debug or FIELD=VALUE"),
        ("train.stesp=3", "train.stesp=3: no such config field"),
        ("train=3", "train=3"),
        ("nothing.at.all=3", "no such config field"),
        ("train.steps=many", "type int"),
        ("train.steps=1.5", "type int"),
        ("model.tied_embeddings=maybe", "type bool"),
        ("seed.x=1", "no such config field"),
    ],
)
def test_wrong_arguments(argument, words):
    with pytest.raises(UserError, match=words):
        apply_argument(default_config(), argument)


@pytest.mark.parametrize(
    ("before", "now"), [(True, "full"), (False, "none"), ("dots", "dots")]
)
def test_remat_as_older_versions_had_it(before, now):
    """A switch: in what a run recorded, as the config's argument, and as a flag."""
    record = default_config().to_dict()
    record["model"]["remat"] = before
    assert configs.from_fields(record).model.remat == now
    argument = f"model.remat={str(before).lower()}"
    assert apply_argument(default_config(), argument).model.remat == now
    config = default_config()
    config.model.remat = str(before)
    configs.update_former(config)
    assert config.model.remat == now


def test_the_store_decides_unless_told_otherwise():
    config = default_config()
    configs.take_from_store(config, (), "S", 300, 64, 7)
    assert (config.model.vocab_size, config.train.seq_len) == (300, 64)
    configs.take_from_store(config, ("train.seq_len",), "S", 300, 64, 7)
    with pytest.raises(UserError, match=r"config\.train\.seq_len=64.* S has 128"):
        configs.take_from_store(config, ("train.seq_len",), "S", 300, 128, 7)
    with pytest.raises(UserError, match=r"config\.model\.vocab_size=300.* S has 301"):
        configs.take_from_store(config, ("model.vocab_size",), "S", 301, 64, 7)


def test_the_store_says_what_ends_a_document():
    """To a model with the mask; without it no run differs by that id."""
    config = default_config()
    config.model.end_of_text = 5  # as a config file may
    configs.take_from_store(config, (), "S", 300, 64, 7)
    assert config.model.end_of_text == -1
    assert configs.model_config(config).document_end is None
    config.model.document_mask = True
    configs.take_from_store(config, ("model.document_mask",), "S", 300, 64, 7)
    assert config.model.end_of_text == configs.model_config(config).document_end == 7
    with pytest.raises(UserError, match=r"config\.model\.end_of_text=7.* S has 8"):
        configs.take_from_store(config, ("model.end_of_text",), "S", 300, 64, 8)
    config.model.end_of_text = -1  # no store was asked
    with pytest.raises(ValueError, match=r"document_end=-1 is not in a vocabulary"):
        configs.model_config(config)


@pytest.mark.parametrize("steps", [1, 2, 3, 19, 100, 10**6])
def test_warm_up_follows_the_steps(steps):
    config = with_field("train.steps", steps)
    assert configs.optimizer_config(config).warmup_steps == min(steps // 10, 2000)
    config.optimizer.warmup_steps = 5
    assert configs.optimizer_config(config).warmup_steps == 5
    assert configs.optimizer_config(config).steps == steps


def test_architecture_defaults():
    config = with_field("model.d_model", 100)
    config.model.num_heads = 10
    model = configs.model_config(config)
    assert model.num_kv_heads == 10
    assert model.d_ff == 384  # 8/3 of 100 is 267
    config.model.update(num_kv_heads=5, d_ff=7)
    assert configs.model_config(config).num_kv_heads == 5
    assert configs.model_config(config).d_ff == 7


@given(st.integers(1, 20), st.integers(0, 50), st.integers(1, 120))
def test_updates_come_when_they_are_expected(interval, start, steps):
    config = default_config()
    config.mixer.update(interval=interval, start=start)
    first = max(interval, start)
    expected = list(range(first, steps + 1, interval))
    found = [s for s in range(steps + 1) if configs.update_due(config, s)]
    assert found == expected
    for step in range(steps):
        after = configs.next_update(config, step)
        assert (
            after == next(s for s in range(step + 1, 999) if s in expected)
            if any(s > step for s in expected)
            else after > steps
        )


def test_mixer_schedules():
    config = with_field("train.steps", 10)
    config.mixer.update(eta=4.0, eta_end=2.0, beta=0.2)
    eta = configs.schedule(config, "eta")
    assert [float(eta(step)) for step in (0, 5, 10)] == [4.0, 3.0, 2.0]
    assert configs.schedule(config, "beta") == 0.2


@given(
    st.sampled_from([(1, 1, 1), (2, 2, 1), (8, 1, 1), (2, 2, 2), (1, 8, 1)]),
    st.integers(1, 100),
    st.integers(1, 16),
    st.integers(1, 60),
    st.integers(0, 40),
    st.sampled_from([8, 16, 48]),
)
def test_chunks(sizes, num_probes, probe_rows, target_rows, chunk, batch):
    config = default_config()
    config.train.batch_size = batch
    config.mixer.update(probe_rows=probe_rows, target_rows=target_rows, chunk=chunk)
    data, fsdp, _ = sizes
    count = data * fsdp * sizes[2]
    mesh = make_mesh(*sizes, devices=jax.devices()[:count])
    options = configs.step_options(config, mesh, num_probes)
    rows = -(-target_rows // (data * fsdp)) * data * fsdp
    assert rows % options.target_chunk == 0
    assert options.target_chunk % (data * fsdp) == 0
    assert options.target_chunk <= max(batch, data * fsdp)
    parts = probe_shards(mesh, probe_rows)
    assert parts == (data * fsdp if probe_rows % fsdp else data)
    filled = -(-num_probes // parts) * parts
    assert options.chunk % parts == 0
    assert options.chunk <= filled
    fits = chunk or max(batch // probe_rows, 1)
    assert options.chunk <= max(fits, parts) + parts
