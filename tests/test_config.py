import pathlib

import pytest

from jaxdiff import build, config as configs

FILE = 'from jaxdiff.configs import default\ndef get_config():\n    config = default.get_config()\n    {}\n    return config\n'


def write(tmp_path, line):
    path = tmp_path / 'mine.py'
    path.write_text(FILE.format(line))
    return str(path)


def test_packaged_and_own_configs_are_found(tmp_path):
    assert configs.load('digits').data.name == 'digits'
    assert configs.load(write(tmp_path, 'config.train.steps = 7')).train.steps == 7
    assert {'default', 'digits', 'fashion_mnist', 'cifar10'} <= set(configs.names())


def test_overrides_take_the_type_of_the_default():
    config = configs.load(
        'digits',
        [
            ('train.steps', '7'),
            ('optimizer.learning_rate', '1'),
            ('net.multipliers', '(1, 2, 4)'),
            ('sample.clip', 'false'),
            ('data.name', '5'),
        ],
    )
    assert config.train.steps == 7
    assert config.optimizer.learning_rate == 1.0 and type(config.optimizer.learning_rate) is float
    assert config.net.multipliers == (1, 2, 4)
    assert config.sample.clip is False
    assert config.data.name == '5'


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('train.step', '7', "unknown config key 'train.step'; the nearest is 'train.steps'"),
        ('train.steps', '1.5', "'train.steps' must be of type int, such as 1000; got 1.5"),
        ('train.steps', 'many', "'train.steps' must be of type int"),
        ('net.multipliers', '3', "'net.multipliers' must be of type tuple of int"),
        ('sample.clip', '1', "'sample.clip' must be of type bool"),
        ('optimizer.learning_rate', 'fast', "'optimizer.learning_rate' must be of type float"),
    ],
)
def test_bad_overrides_are_refused_with_the_nearest_key(key, value, message):
    with pytest.raises(ValueError, match=message):
        configs.load('digits', [(key, value)])


@pytest.mark.parametrize(
    'line, message',
    [
        ('1 / 0', r'mine.py:4 raised ZeroDivisionError: division by zero'),
        ('config.train.step = 7', r'mine.py:4 raised AttributeError: .*did you mean "steps"'),
        ('config.train.steps = "x"', r'mine.py:4 raised TypeError'),
        ('return 3', r'get_config\(\) must return a ConfigDict'),
        ('(', r'mine.py.* raised SyntaxError'),
    ],
)
def test_a_config_file_that_raises_is_one_line(tmp_path, line, message):
    with pytest.raises(ValueError, match=f'(?i){message}') as error:
        configs.load(write(tmp_path, line))
    assert '\n' not in str(error.value)


def test_missing_configs_are_refused():
    with pytest.raises(ValueError, match='no packaged config .digit.: choose from .*digits'):
        configs.load('digit')
    with pytest.raises(ValueError, match='no config file, .* at nowhere/x.py'):
        configs.load('nowhere/x.py')


def test_json_brings_a_config_back():
    config = configs.load('cifar10')
    assert configs.loads(configs.dumps(config)) == config


def test_differences():
    old, new = configs.load('digits'), configs.load('digits', [('train.steps', '7')])
    assert configs.differences(old, new) == {'train.steps': (old.train.steps, 7)}


@pytest.mark.parametrize('name', configs.names())
def test_every_packaged_config_is_possible(name):
    config = configs.load(name)
    build.check(config)
    if name != 'default':
        text = pathlib.Path(configs.jaxdiff.configs.__path__[0], f'{name}.py').read_text()
        assert f'jaxdiff train --config {name}' in text.split('"""')[1]
