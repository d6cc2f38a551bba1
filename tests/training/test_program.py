import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdiff.training import parallel, program


def compiled(f, *shapes, devices=8):
    """A program over a mesh with one axis, its arguments split over their first axis."""
    grid = jax.make_mesh(
        (devices,), ('d',), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,)
    )
    rows = NamedSharding(grid, PartitionSpec('d'))
    shaped = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=rows) for shape in shapes]
    mapped = jax.shard_map(f, mesh=grid, in_specs=PartitionSpec('d'), out_specs=PartitionSpec('d'))
    return jax.jit(mapped).lower(*shaped).compile()


@pytest.mark.parametrize(
    'kind, f, size',
    [
        ('all-reduce', lambda x: jax.lax.psum(x, 'd') * x, 4 * 6),
        ('all-gather', lambda x: jax.lax.all_gather(x, 'd').sum(0), 8 * 4 * 6),
        (
            'reduce-scatter',
            lambda x: jax.lax.psum_scatter(jnp.tile(x, (8, 1)), 'd', tiled=True),
            8 * 4 * 6,
        ),
        (
            'all-to-all',
            lambda x: jax.lax.all_to_all(jnp.tile(x, (8, 1)), 'd', 0, 1, tiled=True),
            8 * 4 * 6,
        ),
        (
            'collective-permute',
            lambda x: jax.lax.ppermute(x, 'd', [(i, (i + 1) % 8) for i in range(8)]),
            4 * 6,
        ),
    ],
)
def test_each_collective_counts_the_whole_of_what_it_moves(kind, f, size):
    """Of [8 * 4, 6] numbers, 4 rows on each device."""
    found = program.exchanged(compiled(f, (32, 6)).as_text())
    assert found == {kind: program.Collective(1, 4 * size)}


def test_a_loop_counts_as_often_as_it_runs():
    def f(x):
        def body(_, x):
            return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(jax.lax.psum(x, 'd') * x), x)

        return jax.lax.fori_loop(0, 5, body, x)

    found = program.exchanged(compiled(f, (8, 100)).as_text())
    assert found == {'all-reduce': program.Collective(15, 15 * 400)}


def test_one_device_exchanges_nothing():
    f = functools.partial(jax.lax.psum, axis_name='d')
    assert program.exchanged(compiled(f, (8, 6), devices=1).as_text()) == {}


# As XLA writes programs for TPUs: operations that begin and end, and such in computations of their
# own; one spread over fusions; a reduce-scatter as an all-reduce with a slice.
TPU = """HloModule jit_step, is_scheduled=true, num_partitions=4

%async_computation (param_0: f32[2,8]) -> f32[8,8] {
  %param_0 = f32[2,8]{1,0:T(2,128)} parameter(0)
  ROOT %all-gather.9 = f32[8,8]{1,0:T(8,128)} all-gather(%param_0), channel_id=4, dimensions={0}
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%async_collective_fusion.1 (param_1: bf16[2,8]) -> (bf16[8,8], u32[]) {
  %param_1 = bf16[2,8]{1,0} parameter(0)
  %all-gather.1 = bf16[8,8]{1,0} all-gather(%param_1), channel_id=1, backend_config={SPREAD}
  ROOT %one = (bf16[8,8]{1,0}, u32[]) custom-call(%all-gather.1), custom_call_target="begin"
}

%fusion.2 (param_2: bf16[2,8]) -> bf16[8,8] {
  %param_2 = bf16[2,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[8,8]{1,0} all-gather(%param_2), channel_id=1, backend_config={SPREAD}
}

%all-reduce-scatter (input_0: f32[8,8]) -> f32[2,8] {
  %input_0 = f32[8,8]{1,0} parameter(0)
  %all-reduce.1 = f32[8,8]{1,0} all-reduce(%input_0), channel_id=1, to_apply=%add
  ROOT %slice = f32[2,8]{1,0} slice(%all-reduce.1), slice={[0:2], [0:8]}
}

ENTRY %main.7 (a: f32[2,8], b: bf16[16], c: bf16[2,8], d: f32[8,8]) -> (f32[8,8], bf16[16]) {
  %a = f32[2,8]{1,0:T(2,128)} parameter(0)
  %b = bf16[16]{0:T(256)(128)(2,1)} parameter(1)
  %c = bf16[2,8]{1,0} parameter(2)
  %d = f32[8,8]{1,0} parameter(3)
  %begun = (f32[2,8]{1,0:T(2,128)}, f32[8,8]{1,0:T(8,128)S(1)}) all-gather-start(%a), dimensions={0}
  %begun.2 = ((f32[2,8]{1,0}), f32[8,8]{1,0}, u32[]{:S(2)}) async-start(%a), calls=%async_computation
  %reduced = bf16[16]{0:T(256)(128)(2,1)} all-reduce-start(%b), to_apply=%add
  %spread.1 = (bf16[8,8]{1,0}, u32[]) fusion(%c), kind=kCustom, calls=%async_collective_fusion.1
  %spread.2 = bf16[8,8]{1,0} fusion(%c), kind=kCustom, calls=%fusion.2
  %scattered = f32[2,8]{1,0} fusion(%d), kind=kCustom, calls=%all-reduce-scatter
  %done = f32[8,8]{1,0:T(8,128)} all-gather-done(%begun)
  %done.2 = f32[8,8]{1,0:T(8,128)} async-done(%begun.2), calls=%async_computation
  %done.3 = bf16[16]{0:T(256)(128)(2,1)} all-reduce-done(%reduced)
  ROOT %all = (f32[8,8]{1,0}, bf16[16]{0}, f32[8,8]{1,0}) tuple(%done, %done.3, %done.2)
}
"""


def test_operations_that_begin_and_end_or_are_spread_count_once():
    assert program.exchanged(TPU.replace('SPREAD', '"async_collective_fusion_config":{}')) == {
        'all-reduce': program.Collective(1, 32),
        'all-gather': program.Collective(3, 256 + 256 + 128),
        'reduce-scatter': program.Collective(1, 256),
    }


def test_bytes_on_a_device_are_those_of_real_arrays():
    grid = jax.make_mesh((2, 4), ('a', 'b'), axis_types=(AxisType.Auto,) * 2)
    specs = {'both': ('a', 'b'), 'one': (None, 'b'), 'none': ()}
    tree = {
        name: jax.device_put(jnp.ones((8, 12)), NamedSharding(grid, PartitionSpec(*spec)))
        for name, spec in specs.items()
    }
    held = sum(x.addressable_shards[0].data.nbytes for x in tree.values())
    assert program.device_bytes(tree) == held == 4 * (12 + 24 + 96)


def test_what_a_program_needs():
    """What it gives takes the place of what it was given, where that is allowed."""

    def f(x):
        return jnp.tanh(x @ x) @ x

    shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    kept = program.memory(jax.jit(f).lower(shape).compile())
    donated = program.memory(jax.jit(f, donate_argnums=0).lower(shape).compile())
    size = 4 * 64 * 64
    assert kept.arguments == donated.arguments == size
    assert (kept.results, donated.results) == (size, 0)
    assert kept.temporaries >= size


@pytest.mark.parametrize('kind', ['pmap', 'mesh'])
def test_a_step_compiled_ahead_is_told_once_and_takes_no_other_shape(kind):
    def step(state, batch, **_):
        return state + batch['x'].sum(), {'total': batch['x'].sum()}

    devices, told = jax.local_devices()[:2], []
    driver = {'pmap': parallel.pmap, 'mesh': functools.partial(parallel.mesh, fsdp=1)}[kind](
        step, devices
    )

    def ready(compiled, seconds):
        told.append((program.memory(compiled).arguments, seconds))
        return compiled

    ahead = parallel.ahead(driver, ready)
    state = jax.device_put(jnp.zeros(3), parallel.shardings(driver.layout(jnp.zeros(3))))
    state = ahead.put_state(state)
    assert not told
    for _ in range(3):
        state, metrics = ahead.step(state, ahead.put_batch({'x': jnp.ones((8, 2))}))
    assert [of > 0 and seconds > 0 for of, seconds in told] == [True]
    each = {'pmap': 8.0, 'mesh': 16.0}[kind]  # pmap: of a device's own rows
    assert ahead.get(state).tolist() == [3 * each] * 3
    with pytest.raises(TypeError):
        ahead.step(state, ahead.put_batch({'x': jnp.ones((4, 2))}))
    assert len(told) == 1
