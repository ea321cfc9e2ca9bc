"""What compiled programs are read to do, against programs whose answer is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from dga_jax import sharding
from dga_jax.benchmark import memory
from dga_jax.benchmark.collectives import (
    Collective,
    collective_bytes,
    collectives,
    sent_bytes,
)
from dga_jax.benchmark.flops import matmul_flops
from dga_jax.benchmark.program import Array, Program, arrays


def compiled_text(function, *shapes, in_specs, out_specs, mesh=None):
    mapped = jax.shard_map(
        function,
        mesh=mesh or sharding.make_mesh(),
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=False,
    )
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(mapped).lower(*shapes).compile().as_text()


def facts(one):
    """All of a collective but where it comes from."""
    return one.op, one.shapes, one.bytes, one.executions, one.group


def test_collectives_in_a_loop_count_every_time():
    def body(x, _):
        total = jax.lax.psum(x * 2, "data")
        return jnp.sin(total) + x, jnp.sum(total)

    text = compiled_text(
        lambda x: jax.lax.scan(body, x, None, length=5),
        (8 * 96,),
        in_specs=P("data"),
        out_specs=(P("data"), P()),
    )
    (found,) = collectives(text)
    assert facts(found) == ("all-reduce", ((96,),), 96 * 4, 5, 8)
    assert collective_bytes(text) == 96 * 4 * 5
    assert found.sent_bytes == 2 * 7 / 8 * 96 * 4 * 5


def test_every_kind_in_nested_loops():
    """Layers in microbatches: each collective's group, times and bytes are known."""
    mesh = sharding.make_mesh(2, 4)

    def layer(x, _):
        whole = jax.lax.all_gather(x, "fsdp", tiled=True)
        part = jax.lax.psum_scatter(jnp.sin(whole), "fsdp", tiled=True)
        return jax.lax.ppermute(part, "fsdp", [(i, (i + 1) % 4) for i in range(4)]), ()

    def microbatch(x, _):
        x, _ = jax.lax.scan(layer, x, None, length=3)
        return x + jax.lax.psum(x, "data"), ()

    text = compiled_text(
        lambda x: jax.lax.scan(microbatch, x, None, length=5)[0],
        (4 * 64,),
        in_specs=P("fsdp"),
        out_specs=P("fsdp"),
        mesh=mesh,
    )
    found = {one.op: one for one in collectives(text)}
    assert {op: facts(one) for op, one in found.items()} == {
        "all-gather": ("all-gather", ((256,),), 1024, 15, 4),
        "reduce-scatter": ("reduce-scatter", ((64,),), 256, 15, 4),
        "collective-permute": ("collective-permute", ((64,),), 256, 15, 8),
        "all-reduce": ("all-reduce", ((64,),), 256, 5, 2),
    }
    assert sent_bytes(found.values()) == 15 * (768 + 768 + 256) + 5 * 256


@pytest.mark.parametrize(
    ("op", "sent"),
    [
        ("all-gather", 75),
        ("all-reduce", 150),
        ("reduce-scatter", 300),
        ("all-to-all", 75),
        ("collective-permute", 100),
    ],
)
def test_what_each_of_four_sends(op, sent):
    assert Collective(op, (Array("f32", (25,)),), 1, 4).sent_bytes == sent


_ASYNCHRONOUS = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %g = (bf16[4]{0}, bf16[8]{0}) all-gather-start(%x), dimensions={0}
  %d = bf16[8]{0} all-gather-done(%g)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

%condition (p: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%never (p: f32[8]) -> f32[8] {
  ROOT %r = f32[8]{0} all-reduce(%p), to_apply=%add
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %p = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%a)
  %q = f32[4]{0} collective-permute-done(%p)
  %w = (s32[], f32[8]{0}) while(%t), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  ROOT %s = (f32[2,3]{1,0}, pred[5]{0}) all-reduce-start(%u, %v), to_apply=%add
}
"""


def test_asynchronous_collectives_count_their_results_once():
    found = {one.op: one for one in collectives(_ASYNCHRONOUS)}
    assert set(found) == {"all-gather", "collective-permute", "all-reduce"}
    assert facts(found["all-gather"])[:4] == ("all-gather", ((8,),), 16, 3)
    assert found["collective-permute"].total_bytes == 16
    assert found["all-reduce"].shapes == ((2, 3), (5,))
    assert found["all-reduce"].bytes == 2 * 3 * 4 + 5


_COMBINED = """
ENTRY %main (a: f32[8]) -> (f32[8], f32[4]) {
  %x = f32[8]{0} negate(%a), metadata={op_name="jit(f)/layers/neg"}
  %y = f32[4]{0} slice(%a), metadata={op_name="jit(f)/transpose(jvp(head))/dot"}
  ROOT %s = (f32[8]{0}, f32[4]{0}) all-reduce(%x, %y), to_apply=%add, \
metadata={op_name="jit(f)/layers/neg"}
}
"""


def test_what_was_combined_is_of_where_each_comes_from():
    (one,) = collectives(_COMBINED)
    assert one.bytes == 48
    assert (one.of("head").shapes, one.of("head").bytes) == (((4,),), 16)
    assert one.of("layers").shapes == ((8,),)
    assert one.of("nobody").sent_bytes == 0


# As TPU writes loops: no trip count, bounds and first values behind copies, a constant
# that is carried, a loop of two turns in one.
_LOOPS = """HloModule jit_f, num_partitions=8

%inner_condition (p.1: (s32[], f32[8])) -> pred[] {
  %two.1 = s32[]{:T(128)} constant(8)
  %p.1 = (s32[]{:T(128)}, f32[8]{0:T(1024)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %c.1 = pred[]{:T(512)} compare(%i.1, %two.1), direction=LT
}

%inner (p.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.2 = (s32[]{:T(128)}, f32[8]{0:T(1024)S(1)}) parameter(0)
  %step.2 = s32[]{:T(128)} constant(2)
  %i.2 = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  %x.2 = f32[8]{0:T(1024)S(1)} get-tuple-element(%p.2), index=1
  %y.2 = f32[8]{0:T(1024)S(1)} all-reduce(%x.2), channel_id=1, \
replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, to_apply=%add
  %j.2 = s32[]{:T(128)} add(%i.2, %step.2)
  ROOT %t.2 = (s32[]{:T(128)}, f32[8]{0:T(1024)S(1)}) tuple(%j.2, %y.2)
}

%outer_condition (p.3: (s32[], f32[8], s32[])) -> pred[] {
  %p.3 = (s32[]{:T(128)}, f32[8]{0}, s32[]{:T(128)}) parameter(0)
  %i.3 = s32[]{:T(128)} get-tuple-element(%p.3), index=0
  %n.3 = s32[]{:T(128)} get-tuple-element(%p.3), index=2
  ROOT %c.3 = pred[]{:T(512)} compare(%i.3, %n.3), direction=LT
}

%outer (p.4: (s32[], f32[8], s32[])) -> (s32[], f32[8], s32[]) {
  %p.4 = (s32[]{:T(128)}, f32[8]{0}, s32[]{:T(128)}) parameter(0)
  %one.4 = s32[]{:T(128)} constant(1)
  %i.4 = s32[]{:T(128)} get-tuple-element(%p.4), index=0
  %n.4 = s32[]{:T(128)} get-tuple-element(%p.4), index=2
  %first.4 = s32[]{:T(128)} constant(2)
  %copy.4 = s32[]{:T(128)} copy(%first.4)
  %x.4 = f32[8]{0} get-tuple-element(%p.4), index=1
  %t.4 = (s32[]{:T(128)}, f32[8]{0}) tuple(%copy.4, %x.4)
  %w.4 = (s32[]{:T(128)}, f32[8]{0}) while(%t.4), condition=%inner_condition, \
body=%inner
  %y.4 = f32[8]{0} get-tuple-element(%w.4), index=1
  %j.4 = s32[]{:T(128)} add(%i.4, %one.4)
  ROOT %r.4 = (s32[]{:T(128)}, f32[8]{0}, s32[]{:T(128)}) tuple(%j.4, %y.4, %n.4)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0), metadata={op_name="state.params[\\'w\\']"}
  %zero = s32[]{:T(128)} constant(0)
  %n = s32[]{:T(128)} constant(36)
  %t = (s32[]{:T(128)}, f32[8]{0}, s32[]{:T(128)}) tuple(%zero, %a, /*index=2*/%n)
  %w = (s32[]{:T(128)}, f32[8]{0}, s32[]{:T(128)}) while(%t), \
condition=%outer_condition, body=%outer
  ROOT %b = f32[8]{0} get-tuple-element(%w), index=1
}
"""


def test_loops_are_counted_by_their_conditions():
    program = Program(_LOOPS)
    assert program.executions["outer"] == 36
    assert program.executions["inner"] == 36 * 3  # 2, 4 and 6
    assert program.unknown_loops == 0
    (found,) = collectives(_LOOPS)
    assert facts(found) == ("all-reduce", ((8,),), 32, 108, 4)
    assert list(program.inputs()) == [("state.params['w']", 32)]


def test_loop_of_unknown_length_is_told():
    program = Program(_LOOPS.replace("constant(36)", "negate(%zero)"))
    assert program.unknown_loops == 1
    assert program.executions["inner"] == 3


_SCATTERED = """HloModule jit_f, num_partitions=8

%all-reduce-scatter.1 (input: f32[64,16]) -> f32[8,16] {
  %input = f32[64,16]{1,0} parameter(0)
  %r = f32[64,16]{1,0} all-reduce(%input), replica_groups=[2,4]<=[8], to_apply=%add
  %i = u32[] partition-id()
  ROOT %s = f32[8,16]{1,0} dynamic-slice(%r, %i, %i), dynamic_slice_sizes={8,16}
}

%start (p: bf16[1,16]) -> bf16[4,16] {
  %p = bf16[1,16]{1,0} parameter(0)
  %g = bf16[4,16]{1,0} all-gather(%p), channel_id=7, \
replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %c = bf16[4,16]{1,0} custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%goes_on (q: bf16[1,16]) -> bf16[4,16] {
  %q = bf16[1,16]{1,0} parameter(0)
  ROOT %h = bf16[4,16]{1,0} all-gather(%q), channel_id=7, replica_groups={{0,1,2,3}}
}

ENTRY %main (a: f32[64,16], b: bf16[1,16]) -> f32[8,16] {
  %a = f32[64,16]{1,0} parameter(0)
  %b = bf16[1,16]{1,0} parameter(1)
  %f = bf16[4,16]{1,0} fusion(%b), kind=kCustom, calls=%start
  %g2 = bf16[4,16]{1,0} fusion(%b), kind=kCustom, calls=%goes_on
  ROOT %e = f32[8,16]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1, \
metadata={op_name="jit(f)/transpose(jvp(head))/reduce_sum"}
}
"""


def test_fusions_with_collectives():
    """A sum that is sliced is scattered; one that goes on elsewhere counts once."""
    assert [facts(one) for one in collectives(_SCATTERED)] == [
        ("reduce-scatter", ((8, 16),), 512, 1, 4),
        ("all-gather", ((4, 16),), 128, 1, 4),
    ]
    scattered, gathered = (one.of("head") for one in collectives(_SCATTERED))
    assert (scattered.bytes, gathered.bytes) == (512, 0)  # as its fusion says


_TRAFFIC = """HloModule jit_f

%slices (layers: f32[36,8], i: s32[]) -> f32[1,8] {
  %layers = f32[36,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %low = bf16[36,8]{1,0} convert(%layers)
  %one = bf16[1,8]{1,0} dynamic-slice(%low, %i, %i), dynamic_slice_sizes={1,8}
  ROOT %out = f32[1,8]{1,0} convert(%one)
}

%stores (layers.1: f32[36,8], new: f32[1,8], i.1: s32[]) -> f32[36,8] {
  %layers.1 = f32[36,8]{1,0} parameter(0)
  %new = f32[1,8]{1,0} parameter(1)
  %i.1 = s32[] parameter(2)
  ROOT %u = f32[36,8]{1,0} dynamic-update-slice(%layers.1, %new, %i.1, %i.1)
}

ENTRY %main (a: f32[36,8], n: s32[]) -> f32[36,8] {
  %a = f32[36,8]{1,0} parameter(0)
  %n = s32[]{:S(6)} parameter(1)
  %one.2 = f32[1,8]{1,0:T(8,128)S(1)} fusion(%a, %n), kind=kLoop, calls=%slices
  %twice = f32[1,8]{1,0} add(%one.2, %one.2)
  %near = (f32[1,8]{1,0:S(1)}, f32[1,8]{1,0}, u32[]{:S(2)}) copy-start(%twice)
  %here = f32[1,8]{1,0:S(1)} copy-done(%near)
  ROOT %b = f32[36,8]{1,0} fusion(%a, %here, %n), kind=kLoop, calls=%stores
}
"""


def test_traffic_is_what_crosses_the_memory():
    """A slice, a sum that is kept, its copy to the chip, a row that is changed."""
    program = Program(_TRAFFIC)
    # Looked at in the fusion: a bfloat16 slice of 8.
    assert memory.traffic(program) == (16 + 32, 32 + 32)
    largest = [large.array.shape for large in memory.largest(program, 5)]
    assert largest == [(36, 8), (1, 8)]


def test_arrays_of_a_type():
    first, second = arrays(
        "(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/pred[]{:T(8)})"
    )
    assert first == ("bf16", (2, 3), 1)
    assert first.bytes == 12
    assert second == ("pred", (), 0)
    assert second.bytes == 1


def test_matrix_products_of_loops_branches_and_shards():
    mesh = sharding.make_mesh()
    x = jnp.ones((8, 4))
    w = jnp.ones((4, 4))
    one = 2 * 8 * 4 * 4

    def flops(function, *arguments):
        return matmul_flops(jax.jit(function).trace(*arguments).jaxpr)

    def layers(x, w):
        return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), ()), x, None, length=5)[0]

    def sharded(x, w):
        specs = (P("data"), P())
        return jax.shard_map(layers, mesh=mesh, in_specs=specs, out_specs=specs[0])(
            x, w
        )

    def either(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)

    def loss(w, x):
        return jnp.sum(jax.checkpoint(layers)(x, w))

    assert flops(layers, x, w) == 5 * one
    assert flops(sharded, x, w) == 5 * one
    assert flops(either, x, w) == 2 * one
    # Forward, again, and two gradients.
    assert flops(jax.grad(loss), w, x) == pytest.approx(20 * one, rel=0.11)
    assert flops(jax.vmap(layers, in_axes=(0, None)), x[None], w) == 5 * one
