"""The page on the mathematics: its equations are all there, in order, and so are its pictures."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / 'jaxdiff' / 'diffusion' / 'README.md'


def test_its_equations_are_numbered_in_order_and_each_is_in_a_docstring():
    tags = [int(n) for n in re.findall(r'\\tag\{(\d+)\}', PAGE.read_text())]
    assert tags == list(range(1, len(tags) + 1))
    code = '\n'.join(path.read_text() for path in PAGE.parent.rglob('*.py'))
    numbered = {int(n) for n in re.findall(r'(?m) \((\d+)\)[.,]?$', code)}
    assert set(tags) <= numbered


def test_what_docstrings_cite_is_on_the_page():
    tags = {int(n) for n in re.findall(r'\\tag\{(\d+)\}', PAGE.read_text())}
    for path in PAGE.parent.rglob('*.py'):
        for group in re.findall(r'[Ee]quations? ((?:\(\d+\)(?:,? and |, )?)+)', path.read_text()):
            assert {int(n) for n in re.findall(r'\d+', group)} <= tags, (path, group)


@pytest.mark.parametrize(
    'page',
    [
        PAGE,
        ROOT / 'README.md',
        ROOT / 'experiments/README.md',
        ROOT / 'experiments/few_steps/README.md',
        ROOT / 'experiments/restoration/README.md',
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_link_leads_somewhere(page):
    links = re.findall(r'\]\(([^)#\s]+)\)', page.read_text())
    for link in links:
        if '://' not in link:
            assert (page.parent / link).exists(), link


def test_its_example_runs():
    code = re.search(r'```python\n(.*?)```', PAGE.read_text(), re.S).group(1)
    names = {}
    exec(code, names)
    assert names['x_0'].shape == (1000, 2) and abs(names['x_0'][:, 0]).min() > 0
