"""Where a step's time goes: a trace of some steps, for TensorBoard or Perfetto, and a page that sums it up."""

import collections
import contextlib
import functools
import gzip
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
from etils import epath

# Steps before the trace, in which all is compiled and the queue fills, and steps in it.
BEFORE, TRACED = 5, 5
STEPS = BEFORE + TRACED
PAGE = 'profile.md'
_LONGEST = 12  # operations that are listed


class Spent(NamedTuple):
    """Seconds that an operation took on all devices, over all steps of the trace."""

    operation: str  # XLA's name
    source: str  # 'jit(step)/transpose(jvp(UNet))/down_0_block_0/conv_0/conv_general_dilated'
    seconds: float


@contextlib.contextmanager
def of_steps(
    folder: epath.Path, tell: Callable[[str], None]
) -> Iterator[Callable[[jax.stages.Compiled], Callable]]:
    """Makes of a compiled step one that traces its runs BEFORE + 1 … STEPS into a folder, and sums them up there.

    Those wait for each other; what the loop does between them is in the trace, not in the sum.
    """
    done, seconds, text, tracing = 0, 0.0, '', False

    def begin():
        nonlocal tracing
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # a step is a handful of calls, and thousands of events
        jax.profiler.start_trace(str(folder), profiler_options=options)
        tracing = True

    def end():
        nonlocal tracing
        jax.profiler.stop_trace()
        tracing = False
        trace = max(folder.glob('plugins/profile/*/*.trace.json.gz'), key=str)
        if not (found := spent(trace, text)):
            return tell(f'{trace} names no operation of the step: it is not summed up')
        page = trace.parent / PAGE
        page.write_text(summary(found, seconds, TRACED, jax.local_device_count()))
        tell(f'{page}: where a step of {seconds / TRACED:.3f} s spends its time')

    def step(compiled, state, batch):
        nonlocal done, seconds
        if done == BEFORE:
            begin()
        jax.block_until_ready(state if tracing else ())
        began = time.perf_counter()
        state, metrics = compiled(state, batch)
        jax.block_until_ready((state, metrics) if tracing else ())
        seconds += time.perf_counter() - began if tracing else 0.0
        done += 1
        if done == STEPS:
            end()
        return state, metrics

    def traced(compiled):
        nonlocal text
        text = compiled.as_text()
        return functools.partial(step, compiled)

    try:
        yield traced
    finally:
        if tracing:  # the run ended within the traced steps
            jax.profiler.stop_trace()
            tell(f'{folder}: the trace ended early, and is not summed up')


def spent(trace: epath.Path, text: str) -> list[Spent]:
    """What the operations of a program took, the longest first.

    Of operations that lie inside each other, on one thread, each is counted without those inside it.

    Args:
      trace: a profiler's .trace.json.gz.
      text: of the program, `compiled.as_text()`, which says where in the code each comes from.
    """
    module = re.match(r'HloModule ([^\s,]+)', text)[1]
    sources = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*?op_name="([^"]*)"', text, re.M))
    threads = collections.defaultdict(list)
    for event in json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']:
        if event.get('ph') == 'X' and event.get('args', {}).get('hlo_module') == module:
            threads[event['pid'], event['tid']].append(event)
    found = collections.Counter()
    for events in threads.values():
        for name, microseconds in _own(events):
            found[name] += microseconds
    return [Spent(name, sources.get(name, ''), t / 1e6) for name, t in found.most_common()]


def _own(events: Iterable[dict]):
    """(operation, its microseconds without those inside it), of the events of one thread."""
    whole = lambda us: round(1e6 * us)  # in picoseconds: sums of floats would overlap
    timed = [(whole(e['ts']), whole(e['dur']), e['args']['hlo_op']) for e in events]
    open_ = []  # of those that have begun: [end, name, own time]
    for begins, lasts, name in sorted(timed, key=lambda e: (e[0], -e[1])):
        while open_ and open_[-1][0] <= begins:
            _, done, own = open_.pop()
            yield done, own / 1e6
        if open_:
            open_[-1][2] -= min(lasts, open_[-1][0] - begins)
        open_.append([begins + lasts, name, lasts])
    for _, done, own in open_:
        yield done, own / 1e6


def summary(found: list[Spent], seconds: float, steps: int, devices: int) -> str:
    """A page of markdown: by kind of operation, by part of the network, and the longest operations.

    Args:
      seconds: that the steps took.
    """
    whole = sum(each.seconds for each in found)
    busy = whole / (seconds * devices)
    kinds, parts = (collections.defaultdict(collections.Counter) for _ in range(2))
    for each in found:
        way = 'backward' if 'transpose(' in each.source else 'forward'
        kinds[_kind(each)][way] += each.seconds
        parts[_part(each.source)][way] += each.seconds

    def ms(t):
        return f'{1e3 * t / steps / devices:.2f}'

    def rows(counted):
        for name, ways in sorted(counted.items(), key=lambda item: -item[1].total()):
            cells = [name, ms(ways['forward']), ms(ways['backward']), f'{ways.total() / whole:.1%}']
            yield '| ' + ' | '.join(cells) + ' |'

    head = '| --- | ---: | ---: | ---: |'
    longest = [
        f'| `{each.operation}` | {ms(each.seconds)} | {each.seconds / whole:.1%} | {each.source} |'
        for each in found[:_LONGEST]
    ]
    return '\n'.join(
        [
            '# Where a step spends its time',
            '',
            f'{steps} steps of {1e3 * seconds / steps:.1f} ms on {devices} device(s), which computed '
            f'{busy:.0%} of that. Milliseconds of a step, the mean over devices; backward is what '
            'the gradient adds.',
            '',
            '| operation | forward | backward | share |',
            head,
            *rows(kinds),
            '',
            '| part | forward | backward | share |',
            head,
            *rows(parts),
            '',
            '| the longest | ms | share | comes from |',
            '| --- | ---: | ---: | --- |',
            *longest,
            '',
        ]
    )


def _kind(each: Any) -> str:
    """What is done: the primitive, or XLA's own name where it has none in the code."""
    return each.source.rpartition('/')[2] or re.sub(r'[.\d]+$', '', each.operation)


def _part(source: str) -> str:
    """Whose layer it is: 'down_0_block_0' of 'jit(step)/jvp(UNet)/down_0_block_0/conv_0/…'."""
    found = re.search(r'\((?:\w+\()*[A-Z]\w*\)+/([^/()]+)/', source)
    return found[1] if found else 'outside the network'
