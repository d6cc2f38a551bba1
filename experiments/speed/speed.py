"""How fast is jaxdiff beside PyTorch, on this machine? Interleaved, as ratios.

    pip install '.[peers]'
    jaxdiff train --config digits
    python experiments/speed/speed.py

Each case has two processes, one of ours and one of theirs, that wait while the other works. Their
weights are carried over, and what both networks say of the same input is compared. Writes speed.json
and speed.png beside this file, and the table into README.md.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import cases
import numpy as np

from jaxdiff import manifest
from jaxdiff.viz import grid

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 4.0  # of a round, at least
FIRST_SAMPLE, FIRST_MOST = 'first sample from a checkpoint, by command', 0.70
APART = 1e-4  # what the two networks may say otherwise, as a share of the largest number


def main() -> None:
    """Measures, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--only', default='', help='cases with this in their name')
    parser.add_argument('--workdir', default='runs/digits', help='a run for the first sample')
    parser.add_argument('--out', type=pathlib.Path, default=HERE)
    args = parser.parse_args()
    if args.only and args.out == HERE:
        parser.error('--only needs --out: the whole table stays')
    if args.rounds < 1 or not any(args.only in name for name in (*cases.CASES, FIRST_SAMPLE)):
        parser.error(f'one round and one case at least: {", ".join((*cases.CASES, FIRST_SAMPLE))}')
    if not pathlib.Path(args.workdir).exists():
        parser.error(f'{args.workdir} is no run: jaxdiff train --config digits')
    found = {}
    for name in cases.CASES:
        if args.only in name:
            found[name] = measure(name, args.rounds)
            print(line(name, found[name]), flush=True)
    if args.only in FIRST_SAMPLE:
        found[FIRST_SAMPLE] = first_sample(args.workdir, args.rounds)
        print(line(FIRST_SAMPLE, found[FIRST_SAMPLE]), flush=True)
    made = {'made_by': 'experiments/speed/speed.py', 'content': 'speed beside PyTorch'}
    made |= {'cores': len(os.sched_getaffinity(0)), 'processor': platform.processor()}
    made |= manifest.here()
    made['versions'] |= peers()
    out = args.out / 'speed'
    out.with_suffix('.json').write_text(json.dumps({'found': found, 'made': made}, indent=1) + '\n')
    about = {'pnginfo': grid.about(made)}
    picture(found).savefig(out.with_suffix('.png'), dpi=100, pil_kwargs=about)
    readme = args.out / 'README.md'
    if readme.exists() and not args.only:
        before, _, rest = readme.read_text().partition('<!-- table -->')
        _, _, after = rest.partition('<!-- end -->')
        text = '\n'.join(['<!-- table -->', table(found), '<!-- end -->'])
        readme.write_text(before + text + after)


class Worker:
    """One of the processes of a case."""

    def __init__(self, script, case, folder, environment=None):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), case, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )
        self.told = self.hear()

    def hear(self):
        """Its next line."""
        if not (said := self.process.stdout.readline()):
            raise RuntimeError(f'{self.process.args} ended with code {self.process.wait()}')
        return json.loads(said)

    def work(self, times):
        """Seconds for each time, and the peak of its memory."""
        print(times, file=self.process.stdin, flush=True)
        return self.hear()

    def end(self):
        """Lets it go."""
        self.process.stdin.close()
        self.process.wait()


def measure(name, rounds):
    """A case: seconds of each round, and what the processes say of themselves."""
    with tempfile.TemporaryDirectory() as place:
        folder, shape = pathlib.Path(place), cases.CASES[name].shape
        images = np.random.default_rng(0).integers(256, size=(256, *shape), dtype=np.uint8)
        np.savez(folder / 'data.npz', image=images)
        programs = {'JAX_COMPILATION_CACHE_DIR': str(folder / 'programs')}
        theirs = Worker('theirs.py', name, folder)
        cold = Worker('ours.py', name, folder, programs | {'COUNT': '1'})
        cold.end()
        if cold.told['apart'] > APART or cold.told['parameters'] != theirs.told['parameters']:
            raise RuntimeError(f'{name}: the networks differ: {cold.told}, {theirs.told}')
        ours = Worker('ours.py', name, folder, programs)
        both = {'ours': ours, 'theirs': theirs}
        times = {who: worker.work(2)['seconds'] for who, worker in both.items()}
        counts = {who: max(1, round(SECONDS / seconds)) for who, seconds in times.items()}
        seconds, peaks = {'ours': [], 'theirs': []}, {}
        for i in range(rounds):
            for who in sorted(both, reverse=bool(i % 2)):
                answer = both[who].work(counts[who])
                seconds[who].append(answer['seconds'])
                peaks[who] = answer['peak_mib']
        for worker in both.values():
            worker.end()
    told = {who: worker.told | {'peak_mib': peaks[who]} for who, worker in both.items()}
    told['ours']['first_cold'] = cold.told['first']
    told['ours'] |= {key: cold.told[key] for key in ('gflop', 'peak_gflops')}
    return {'seconds': seconds, 'most': cases.CASES[name].most, 'told': told}


def first_sample(workdir, rounds):
    """From a command to a picture: programs compiled before, theirs imported anew."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        python, programs = sys.executable, str(folder / 'programs')
        environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': programs}
        ours = [python, '-m', 'jaxdiff', 'sample', '--workdir', workdir, '--num', '16']
        ours += ['--steps', str(cases.STEPS), '--out', str(folder / 'ours'), '--overwrite']
        theirs = [python, str(HERE / 'first.py'), str(folder / 'model')]
        subprocess.run([*theirs, 'save'], check=True)
        both = {'ours': ours, 'theirs': [*theirs, str(folder / 'theirs.png')]}
        seconds = {'ours': [], 'theirs': []}
        for i in range(rounds + 1):
            for who in sorted(both, reverse=bool(i % 2)):
                began = time.perf_counter()
                done = subprocess.run(both[who], env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stderr)
                seconds[who].append(time.perf_counter() - began)
    cold = seconds['ours'][0]
    return {
        'seconds': {who: each[1:] for who, each in seconds.items()},
        'most': FIRST_MOST,
        'told': {'ours': {'first_cold': cold}, 'theirs': {}},
    }


def ratios(one):
    """Ours over theirs, of each round."""
    return np.divide(one['seconds']['ours'], one['seconds']['theirs'])


def line(name, one):
    """The ratio, in words."""
    r = ratios(one)
    return (
        f'{name}: {np.median(r):.2f} [{r.min():.2f}, {r.max():.2f}] of theirs, asked {one["most"]}'
    )


def table(found):
    """Of markdown."""
    rows = [
        '| work | ours, s | theirs, s | ratio, median [least, most] | asked | '
        'peak memory, MiB | parameters | outputs differ by | first time, s: cold, warm / theirs | '
        'share of the peak |',
        '| --- ' * 10 + '|',
    ]
    for name, one in found.items():
        r, ours, theirs = ratios(one), one['told']['ours'], one['told']['theirs']
        middle = {who: np.median(each) for who, each in one['seconds'].items()}
        cells = [name, *(f'{middle[who]:.3f}' for who in ('ours', 'theirs'))]
        cells += [f'{np.median(r):.2f} [{r.min():.2f}, {r.max():.2f}]', f'{one["most"]:.2f}']
        if 'parameters' in ours:
            memory = [who['peak_mib'] for who in (ours, theirs)]
            cells.append(f'{memory[0]:,.0f} / {memory[1]:,.0f} = {memory[0] / memory[1]:.2f}')
            cells += [f'{ours["parameters"]:,}', f'{ours["apart"]:.0e}']
            cells.append(f'{ours["first_cold"]:.1f}, {ours["first"]:.1f} / {theirs["first"]:.1f}')
            speed = ours['gflop'] * ours['devices'] / middle['ours']
            share = f'{speed / ours["peak_gflops"]:.0%}' if ours['gflop'] else '–'
            cells.append(share)
        else:
            cells += ['–', '–', '–', f'{ours["first_cold"]:.1f} cold', '–']
        rows.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(rows)


def picture(found):
    """Each round's ratio, the median, and what was asked."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((9, 1 + 0.7 * len(found)), layout='constrained')
    axes = figure.subplots()
    for i, one in enumerate(found.values()):
        r = ratios(one)
        axes.barh(i, np.median(r), color='tab:blue', alpha=0.5)
        axes.plot(r, np.full(len(r), i), '.', color='tab:blue')
        axes.plot([one['most']] * 2, [i - 0.4, i + 0.4], color='tab:red')
    axes.axvline(1, color='grey', linestyle=':')
    axes.set_yticks(range(len(found)), list(found))
    axes.set(xlabel="seconds, as a share of PyTorch's (red: what was asked)", xlim=(0, None))
    axes.invert_yaxis()
    return figure


def peers():
    """Versions of what is measured against."""
    from importlib.metadata import version

    return {name: version(name) for name in ('torch', 'diffusers')}


if __name__ == '__main__':
    main()
