"""Flags become a config; what is wrong is said in one line."""

import dataclasses
import json
import subprocess
import sys
import textwrap

import pytest

from seqjax import config
from seqjax.types import InputError

_BAD = {
  '--widht=3': 'widht',
  '--width=many': '--width=many',
  '--kind=c': '--kind=c',
  '--num_epochs=0': '--num_epochs must be at least 1, got 0',
  '--learning_rate=nan': '--learning_rate must be above 0, got nan',
  '--learning_rate=inf': '--learning_rate must be below inf',
  '--clip_norm=1 --clip_value=1': '--clip_value, --clip_norm',
  '--log_every=20 --save_every=30': '--save_every must be a multiple',
  '--steps_per_dispatch=3': '--steps_per_dispatch must divide --log_every=20, got 3',
  'stray': "'stray'",
  '--width=13': '--width=13 is unlucky',
  '--width=15': '--width=15 needs --kind=b, or another --seed; see `depth`, `a b`',
  '--flagfile=missing.flags': '--flagfile=missing.flags: No such file',
  '--flagfile=latin.flags': '--flagfile=latin.flags, line 2 is not UTF-8',
  '--flagfile=wide.flags': 'wide.flags, line 1 is not UTF-8; it looks like UTF-16',
  '--flagfile=itself.flags': '--flagfile=itself.flags is read within itself',
  '--flagfile': '--flagfile needs the name of a file',
}
_GOOD = '--flagfile=run.flags --num_steps=7 --workdir=w'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Command line -> (exit code, stdout, stderr) of a command made with config.main.

  One process imports what the command needs and forks for each command line.
  """
  folder = tmp_path_factory.mktemp('command')
  (folder / 'run.flags').write_text('# a comment\n--kind=b\n--clip_norm=0.5\n')
  (folder / 'latin.flags').write_text('--width=3\n# grün\n', encoding='latin-1')
  (folder / 'wide.flags').write_text('--width=3\n', encoding='utf-16')
  (folder / 'itself.flags').write_text(
    '--flagfile itself.flags\n--flagfile=itself.flags'
  )
  (folder / 'command.py').write_text(
    textwrap.dedent('''
    """A command for a test."""
    import dataclasses, json, os, sys
    from typing import Literal
    from seqjax import config
    from seqjax.types import InputError

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(config.TrainConfig):
      kind: Literal['a', 'b'] = config.field('a', 'One of two.')
      width: int = config.field(32, 'How wide.')

    def run(c):
      if c.width == 13:
        raise InputError('--width=13 is\\nunlucky')
      if c.width == 15:  # as the library says it
        raise InputError(
          '`width=15` needs `kind=b`, or another `seed`; see `depth`, `a b`'
        )
      if c.width == 14:
        raise KeyError('a bug')
      print(sorted(dataclasses.asdict(c).items()))

    if __name__ == '__main__':
      for number, line in enumerate(json.loads(sys.argv[1])):
        if not os.fork():
          for fd, name in ((1, 'out'), (2, 'err')):
            os.dup2(os.open(f'{name}{number}', os.O_CREAT | os.O_WRONLY), fd)
          sys.argv[1:] = line.split()
          config.main(Config, run)
        with open(f'code{number}', 'w') as file:
          file.write(str(os.waitstatus_to_exitcode(os.wait()[1])))
    ''')
  )
  lines = [_GOOD, '--help', '--width=14', *_BAD]
  command = [sys.executable, 'command.py', json.dumps(lines)]
  subprocess.run(command, cwd=folder, check=True)

  def read(number):
    code, out, err = (folder / f'{name}{number}' for name in ('code', 'out', 'err'))
    return int(code.read_text()), out.read_text(), err.read_text()

  return {line: read(number) for number, line in enumerate(lines)}


def test_flags_set_fields_of_every_type(run):
  code, out, err = run[_GOOD]
  assert code == 0, err
  for pair in ("('kind', 'b')", "('clip_norm', 0.5)", "('num_steps', 7)"):
    assert pair in out
  for pair in ("('clip_value', None)", "('learning_rate', 0.001)", "('width', 32)"):
    assert pair in out


def test_help_lists_the_flags_with_defaults_and_meaning(run):
  _, out, _ = run['--help']
  assert 'A command for a test.' in out
  for spec in dataclasses.fields(config.TrainConfig):
    assert f'--{spec.name}' in out or f'--[no]{spec.name}' in out
  assert 'How wide.' in out
  assert "(default: '32')" in out


@pytest.mark.parametrize('line', _BAD)
def test_bad_input_is_one_line_and_exit_code_2(run, line):
  code, out, err = run[line]
  assert code == 2
  assert out == ''
  assert len(err.strip().splitlines()) == 1, err
  assert _BAD[line] in err


def test_a_bug_keeps_its_traceback(run):
  code, _, err = run['--width=14']
  assert code == 1
  assert 'KeyError' in err
  assert 'Traceback' in err


def test_input_error_names_the_flag_without_a_command_line():
  with pytest.raises(InputError, match='`batch_size` must be at least 1, got 0'):
    config.TrainConfig(batch_size=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Width(config.TrainConfig):
  width: int = config.field(32, 'How wide.', at_least=1)
  half: bool = config.field(False, 'Whether by half.')


def test_another_default_keeps_help_and_limits_of_the_base():
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Other(config.TrainConfig):
    num_epochs: int = 3
    clip_norm: float | None = 2.0

  ours, base = (
    {f.name: f for f in dataclasses.fields(kind)} for kind in Other.__mro__[:2]
  )
  for name, default in (('num_epochs', 3), ('clip_norm', 2.0), ('seed', 0)):
    assert ours[name].default == default
    assert ours[name].metadata == base[name].metadata
  assert Other().num_epochs == 3
  with pytest.raises(InputError, match='`num_epochs` must be at least 1, got 0'):
    Other(num_epochs=0)


def test_parse_is_the_config_of_a_command(tmp_path):
  path = tmp_path / 'some.flags'
  path.write_text('# a comment\n--width=5\n--clip_norm=0.5\n')
  found = config.parse(_Width, [f'--flagfile={path}', '--width=6', '--half'])
  assert found == _Width(width=6, clip_norm=0.5, half=True)
  assert config.parse(_Width, []) == _Width()  # nothing is left of the call before


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_flag_files_of_any_system_in_any_place(tmp_path, monkeypatch, end):
  home = tmp_path / 'a home'
  home.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.chdir(tmp_path)
  lines = ['// grün', '', ' --width=5 ', '--flagfile=~/in ner.flags', '--workdir=a b']
  text = end.join(lines).encode('utf-8-sig')
  (home / 'some.flags').write_bytes(text)
  (home / 'in ner.flags').write_bytes(b'--width=6')
  expected = _Width(width=6, workdir='a b')
  for path in ('~/some.flags', 'a home/some.flags', './a home/../a home/some.flags'):
    assert config.parse(_Width, [f'--flagfile={path}']) == expected
    assert config.parse(_Width, ['-flagfile', path]) == expected
  # What comes later wins.
  assert config.parse(_Width, ['--width=7', '--flagfile=~/some.flags']) == expected
  after = config.parse(_Width, ['--flagfile=~/some.flags', '--width=7'])
  assert after == dataclasses.replace(expected, width=7)


def test_home_in_front_of_a_path_and_of_nothing_else(monkeypatch):
  monkeypatch.setenv('HOME', '/a home')
  paths = ('data_dir', 'cache_dir', 'workdir', 'compilation_cache')
  found = config.parse(config.TrainConfig, [f'--{name}=~/x y/' for name in paths])
  assert {getattr(found, name) for name in paths} == {'/a home/x y/'}
  found = config.TrainConfig(workdir='x/~', monitor='~', data_dir='~')
  assert (found.workdir, found.monitor, found.data_dir) == ('x/~', '~', '/a home')


@pytest.mark.parametrize(
  ('argument', 'match'),
  [
    ('--widht=3', 'widht'),
    ('--width=many', '--width=many'),
    ('--width=0', '`width` must be at least 1, got 0'),
    ('stray', "got the argument 'stray'"),
    ('--flagfile=missing.flags', r'missing\.flags'),
  ],
)
def test_parse_refuses_what_a_command_would(argument, match):
  with pytest.raises(InputError, match=match):
    config.parse(_Width, [argument])


def test_flags_of_a_cluster_without_one_are_refused():
  with pytest.raises(InputError, match='`process_id` needs `distributed`'):
    config.TrainConfig(process_id=0)
  config.TrainConfig(process_id=0, distributed=True)
