"""What a trace says of a step."""

import gzip
import json

import processes
import pytest
from etils import epath

from jaxdiff.training import profile

TEXT = """HloModule jit_step, is_scheduled=true

%inner (p: f32[2]) -> f32[2] {
  %dot.1 = f32[2]{0} dot(%p, %p), metadata={op_name="jit(step)/jvp(UNet)/down_0_block_0/conv_0/dot_general" id=3}
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %call.2 = f32[2]{0} call(%a), to_apply=%inner, metadata={op_name="jit(step)/jvp(UNet)/down_0_block_0/conv_0/dot_general"}
  %fusion.3 = f32[2]{0} fusion(%a), metadata={op_name="jit(step)/transpose(jvp(UNet))/norm_out/mul"}
  ROOT %copy.4 = f32[2]{0} copy(%a)
}
"""


def event(operation, begins, lasts, thread=1, module='jit_step'):
    args = {'hlo_op': operation, 'hlo_module': module}
    return {'ph': 'X', 'pid': 1, 'tid': thread, 'ts': begins, 'dur': lasts, 'args': args}


@pytest.fixture
def trace(tmp_path):
    """A call of 5 ms that holds a product of 4, beside it on two threads a fusion of 3, a copy of 1."""
    events = [
        event('call.2', 0, 5000),
        event('dot.1', 500, 4000),
        event('fusion.3', 0, 3000, thread=2),
        event('fusion.3', 5000, 3000, thread=1),
        event('copy.4', 8000, 1000),
        event('dot.1', 9000.1, 0.2, thread=4),  # as floats, 9000.1 + 0.2 lies behind 9000.3
        event('copy.4', 9000.3, 0.1, thread=4),
        event('fusion.3', 0, 9000, thread=3, module='jit_other'),
        {'ph': 'M', 'name': 'process_name', 'pid': 1},
    ]
    path = epath.Path(tmp_path / 'some.trace.json.gz')
    path.write_bytes(gzip.compress(json.dumps({'traceEvents': events}).encode()))
    return path


def test_each_operation_is_counted_without_what_it_holds(trace):
    found = profile.spent(trace, TEXT)
    assert {f.operation: f.seconds for f in found} == pytest.approx(
        {'fusion.3': 0.006, 'dot.1': 0.0040002, 'call.2': 0.001, 'copy.4': 0.0010001}, abs=1e-12
    )
    assert found[0].operation == 'fusion.3' and found[0].source.endswith('norm_out/mul')


def test_the_page_adds_up_by_kind_and_by_part(trace):
    page = profile.summary(profile.spent(trace, TEXT), seconds=0.012, steps=2, devices=2)
    assert '2 steps of 6.0 ms on 2 device(s), which computed 50% of that' in page
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in page.splitlines()]
    assert ['dot_general', '1.25', '0.00', '41.7%'] in rows
    assert ['mul', '0.00', '1.50', '50.0%'] in rows
    assert ['copy', '0.25', '0.00', '8.3%'] in rows
    assert ['down_0_block_0', '1.25', '0.00', '41.7%'] in rows
    assert ['norm_out', '0.00', '1.50', '50.0%'] in rows
    assert ['outside the network', '0.25', '0.00', '8.3%'] in rows


def test_a_run_is_traced_and_the_trace_summed_up(tmp_path, capsys):
    asked = processes.arguments(tmp_path / 'run', '--profile', train__steps=profile.STEPS)
    assert processes.here(*asked) == 0
    (page,) = (tmp_path / 'run').glob('profile/**/profile.md')
    assert str(page) in capsys.readouterr().err
    text = page.read_text()
    assert '5 steps of' in text and 'conv_general_dilated' in text
    assert '| down_0_block_0 |' in text and '| outside the network |' in text
    (trace,) = page.parent.glob('*.trace.json.gz')
    assert trace.stat().st_size


def test_a_run_that_ends_within_the_traced_steps_says_so(tmp_path):
    told, compiled = [], lambda state, batch: (state, {})
    compiled.as_text = lambda: TEXT
    with pytest.raises(KeyboardInterrupt):
        with profile.of_steps(epath.Path(tmp_path / 'profile'), told.append) as traced:
            step = traced(compiled)
            for _ in range(profile.BEFORE + 1):
                step(0, 0)
            raise KeyboardInterrupt
    (line,) = told
    assert 'ended early' in line


def test_a_run_that_is_too_short_to_be_traced_is_refused(tmp_path, capsys):
    asked = processes.arguments(tmp_path / 'run', '--profile', train__steps=profile.STEPS - 1)
    assert processes.here(*asked) == 2
    assert '--profile needs 10 steps' in capsys.readouterr().err
