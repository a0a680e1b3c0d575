"""Generated pairs are right, and no test is seen in training; captions are read."""

import datetime
import gzip
import re

import pytest

from seqjax.data.texts import known, parallel
from seqjax.types import InputError


def _sizes(parts):
  return [len(part.sources) for part in parts.values()]


def test_sums_are_right_and_none_is_in_two_parts():
  parts = parallel.addition(0, 2_000, 2)
  assert _sizes(parts) == [1_600, 200, 200]
  seen = []
  for part in parts.values():
    pairs = [tuple(map(int, text.split('+'))) for text in part.sources]
    assert [str(a + b) for a, b in pairs] == part.targets
    seen.append({tuple(sorted(pair)) for pair in pairs})
  train, validation, test = seen
  assert sum(map(len, seen)) == 2_000
  assert not train & test
  assert not train & validation
  assert not validation & test
  lengths = [len(str(a)) for pairs in seen for pair in pairs for a in pair]
  assert 0.15 < lengths.count(1) / len(lengths) < 0.5  # of all it would be 0.1
  assert parallel.addition(0, 2_000, 2) == parts
  assert parallel.addition(1, 2_000, 2) != parts


def test_dates_are_those_of_their_iso_form():
  parts = parallel.dates(0, 3_000)
  assert _sizes(parts) == [2_400, 300, 300]
  days, kinds = [], set()
  for part in parts.values():
    for text, iso in zip(*part, strict=True):
      day = datetime.date.fromisoformat(iso)
      days.append(day)
      text = text.lower()
      numbers = [int(n) for n in re.findall(r'\d+', text)]
      assert day.day in numbers
      assert day.year in numbers or day.year % 100 in numbers
      if not re.search('[a-z]', text):
        slashes = '/' in text
        assert numbers[:2] == (
          [day.month, day.day] if slashes else [day.day, day.month]
        )
      else:
        assert day.strftime('%b').lower() in text
      if 'day' in text:
        assert text.startswith(day.strftime('%A').lower())
      for number, ending in re.findall(r'(\d+)(st|nd|rd|th)', text):
        kinds.add(ending)
        teen = number in ('11', '12', '13')
        wanted = {'1': 'st', '2': 'nd', '3': 'rd'}.get(number[-1], 'th')
        assert ending == ('th' if teen else wanted)
  assert len(set(days)) == 3_000
  assert kinds == {'st', 'nd', 'rd', 'th'}
  assert max(len(t) for p in parts.values() for t in p.sources) <= 40
  with pytest.raises(InputError, match='`num_pairs` must be at most 36,525, the days'):
    parallel.dates(0, 40_000)
  with pytest.raises(InputError, match='`num_pairs` must be at most 25, some half of'):
    parallel.addition(0, 26, 1)


def test_made_up_captions_have_one_translation():
  parts = parallel.captions(0, 2_000)
  found = {}
  for part in parts.values():
    for source, target in zip(*part, strict=True):
      assert found.setdefault(source, target) == target
  assert len(found) > 500


def _write(folder, name, *lines):
  (folder / name).write_bytes(gzip.compress(''.join(f'{x}\n' for x in lines).encode()))


def test_captions_are_read_line_by_line_and_faults_are_named(tmp_path):
  with pytest.raises(InputError, match='`data_dir` must name the folder'):
    known.multi30k('')
  for part in ('train', 'val', 'test_2016_flickr'):
    _write(tmp_path, f'{part}.de.gz', f'Ein Hund {part}. ', 'Ein Ball.')
    _write(tmp_path, f'{part}.en.gz', f'A dog {part}.', 'A ball.')
  parts = known.multi30k(str(tmp_path))
  assert parts['train'] == (
    ['Ein Hund train.', 'Ein Ball.'], ['A dog train.', 'A ball.'],
  )  # fmt: skip
  assert parts['test'].targets[0] == 'A dog test_2016_flickr.'
  _write(tmp_path, 'val.en.gz', 'A dog.', '')
  with pytest.raises(InputError, match=r'val.en.gz, line 2 is empty'):
    known.multi30k(str(tmp_path))
  _write(tmp_path, 'val.en.gz', 'A dog.')
  with pytest.raises(InputError, match=r'as many lines, got 2 and 1'):
    known.multi30k(str(tmp_path))
  whole = (tmp_path / 'val.de.gz').read_bytes()
  for content, message in (
    (whole[:-9], 'cannot be read: the packed file is damaged or cut short'),
    (whole[:12] + b'xxx' + whole[15:], 'cannot be read: '),
    (b'no gzip', 'no gzip file'),
    (b'<html>', 'no gzip file; it looks like a web page'),
  ):
    (tmp_path / 'val.en.gz').write_bytes(content)
    with pytest.raises(InputError, match=f'val.en.gz: {message}'):
      known.multi30k(str(tmp_path))


@pytest.mark.real_data
def test_multi30k_has_its_published_size(real_data):
  parts = known.multi30k(str(real_data))
  assert _sizes(parts) == [29_000, 1_014, 1_000]
  assert parts['test'].targets[0] == 'A man in an orange hat starring at something.'
