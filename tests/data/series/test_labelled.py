"""Series with a label each: which files, which rows, and what is refused by line."""

import numpy as np
import pytest

from seqjax.data.series import labelled, synthetic
from seqjax.data.series.csv_files import read_csv
from seqjax.types import InputError


def _read(path, date_format='iso'):
  options = {'time_column': None, 'date_format': date_format}
  return read_csv(path.read_bytes(), str(path), **options)


@pytest.fixture
def folder(tmp_path):
  for name, rows in (('run/a.csv', 3), ('run/b.csv', 2), ('walk/a.csv', 4)):
    path = tmp_path / 'data' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'2020-01-0{i + 1},{i}' for i in range(rows)]
    path.write_text('\n'.join(['time,x', *lines]))
  return tmp_path / 'data'


def _table(path, text):
  path.write_text(text)
  return str(path)


def test_a_folder_a_class(folder):
  found = labelled.load(str(folder), '', _read)
  assert found.labels == ['run', 'run', 'walk']
  assert [len(series.times) for series in found.series] == [3, 2, 4]
  assert found.locations[2] == str(folder / 'walk' / 'a.csv')
  assert found.parts == ['', '', '']
  (folder / 'sit').mkdir()
  with pytest.raises(InputError, match=r"the class 'sit' is empty: .* holds no .csv"):
    labelled.load(str(folder), '', _read)


def test_a_table_of_files_of_rows_and_of_parts(folder, tmp_path):
  labels = _table(
    tmp_path / 'labels.csv',
    'label;from;to;file;part\n'
    'up;2020-01-02;2020-01-03;walk/a.csv;train\n'
    'down;2020-01-01 00:00;2020-01-01;run/b.csv;dev\n',
  )
  found = labelled.load(str(folder), labels, _read)
  assert found.labels == ['up', 'down']
  assert found.parts == ['train', 'validation']
  np.testing.assert_array_equal(found.series[0].values, [[1], [2]])
  np.testing.assert_array_equal(found.series[1].values, [[0]])
  whole = _table(tmp_path / 'whole.csv', 'file,label\nrun/a.csv,x\nwalk/a.csv,y\n')
  found = labelled.load(str(folder), whole, _read)
  assert [len(series.times) for series in found.series] == [3, 4]


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.csv', '"label", "file", "part"\n"x", "run/a.csv", "train"\n'),
    ('a.csv', '\nlabel,"a\nb",file,part\nx,0,run/a.csv,train\n'),
    ('a.tsv', '\nlabel\tpart\tfile\nx\ttrain\trun/a.csv\n'),
    ('a.jsonl', '\n{"label": "x", "file": "run/a.csv", "part": "train"}\n'),
  ],
)
def test_a_part_is_found_in_every_kind_of_table(folder, tmp_path, name, text):
  found = labelled.load(str(folder), _table(tmp_path / name, text), _read)
  assert (found.labels, found.parts) == (['x'], ['train'])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"label": "x", "file": "run/a.csv"}\n{"part": "test"}\n', "1 has no 'part'"),
    ('{"label": "x", "file": "run/a.csv"}\n{"label"\n', '2 is no JSON'),
  ],
)
def test_a_part_of_some_objects_is_refused(folder, tmp_path, text, message):
  with pytest.raises(InputError, match=f'a.jsonl, line {message}'):
    labelled.load(str(folder), _table(tmp_path / 'a.jsonl', text), _read)


def test_rows_of_one_file_by_number(tmp_path):
  path = tmp_path / 'one.csv'
  path.write_text('x\n' + '\n'.join(map(str, range(10, 20))))
  labels = _table(tmp_path / 'labels.csv', 'from,to,label\n1,3,a\n9,30,b\n')

  def read(path):
    return _read(path, 'rows')

  found = labelled.load(str(path), labels, read, date_format='rows')
  assert [series.values[:, 0].tolist() for series in found.series] == [
    [10, 11, 12],
    [18, 19],
  ]
  for rows, message in (
    ('0x1,3,a', "labels.csv, line 2, column 'from': expected the number of a row, got"),
    ('5,4,a', 'labels.csv, line 2: .*one.csv has no row from 5 to 4'),
    ('11,12,a', 'has no row from 11 to 12'),
    ('1,,a', 'labels.csv, line 2'),
  ):
    _table(tmp_path / 'labels.csv', f'from,to,label\n{rows}\n')
    with pytest.raises(InputError, match=message):
      labelled.load(str(path), labels, read, date_format='rows')


def test_times_of_labels_have_offsets_where_those_of_rows_do(tmp_path):
  path = tmp_path / 'one.csv'
  path.write_text(
    't,x\n' + '\n'.join(f'2020-01-01T0{i}:00+02:00,{i}' for i in range(9))
  )
  labels = _table(
    tmp_path / 'labels.csv', 'from,to,label\n2020-01-01T01Z,2020-01-01T05:00+02:00,a\n'
  )
  found = labelled.load(str(path), labels, _read).series[0]
  np.testing.assert_array_equal(found.values[:, 0], [3, 4, 5])
  naive = 'from,to,label\n2020-01-01T03:00,2020-01-01T05:00,a\n'
  message = 'labels.csv, line 2, column {}: expected a time {} an offset from UTC, as'
  _table(tmp_path / 'labels.csv', naive)
  with pytest.raises(InputError, match=message.format("'from'", 'with')):
    labelled.load(str(path), labels, _read)
  path.write_text(path.read_text().replace('+02:00', ''))
  found = labelled.load(str(path), labels, _read).series[0]
  np.testing.assert_array_equal(found.values[:, 0], [3, 4, 5])
  _table(tmp_path / 'labels.csv', naive.replace('05:00', '05:00Z'))
  with pytest.raises(InputError, match=message.format("'to'", 'without')):
    labelled.load(str(path), labels, _read)


def test_a_last_day_is_all_of_it(tmp_path):
  path = tmp_path / 'one.csv'
  hours = np.datetime64('2020-01-04T22') + np.arange(50)
  path.write_text('t,x\n' + '\n'.join(f'{hour}:30,{i}' for i, hour in enumerate(hours)))
  labels = _table(
    tmp_path / 'labels.csv',
    'from,to,label\n2020-01-05,2020-01-05,a\n2020-01-05,2020-01-05T00:30,b\n',
  )
  day, half_hour = labelled.load(str(path), labels, _read).series
  np.testing.assert_array_equal(day.values[:, 0], np.arange(2, 26))
  np.testing.assert_array_equal(half_hour.values[:, 0], [2])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('file,label\nno.csv,a\n', 'labels.csv, line 2: there is no file .*no.csv'),
    ('file,name\nrun/a.csv,a\n', 'label'),
    ('label\na\n', 'file'),
    (
      'file,label,part\nrun/a.csv,a,some\n',
      "line 2, column 'part': expected one of tr",
    ),
    (
      'file,label,from,to\nrun/a.csv,a,1.1.,2.2.\n',
      "line 2, column 'from': expected a t.*; see `date_format`$",
    ),
    ('file,label,from\nrun/a.csv,a,2020-01-01\n', 'to'),
  ],
)
def test_a_table_that_does_not_do(folder, tmp_path, text, message):
  labels = _table(tmp_path / 'labels.csv', text)
  with pytest.raises(InputError, match=message):
    labelled.load(str(folder), labels, _read)


def test_what_is_not_there(folder, tmp_path):
  for data, labels, message in (
    ('', '', '`data=`: there is no such file or folder'),
    (str(folder / 'no'), '', 'there is no such file or folder'),
    (str(folder / 'run' / 'a.csv'), '', 'is a file: `labels` must say which rows'),
    (
      str(folder / 'run'),
      '',
      'holds no folder of a class; `labels` may name the files',
    ),
    (str(folder), str(tmp_path / 'no.csv'), '`labels=.*no.csv` is no file'),
  ):
    with pytest.raises(InputError, match=message):
      labelled.load(data, labels, _read)


def test_generated_waves_are_what_they_are_called():
  found = synthetic.shapes(0, 60)
  again = synthetic.shapes(0, 60)
  assert sorted({*found.labels}) == ['saw', 'sine', 'square']
  for series, other, label in zip(
    found.series, again.series, found.labels, strict=True
  ):
    np.testing.assert_array_equal(series.values, other.values)
    x = np.abs(series.values[:, 0])
    near = np.mean(np.abs(x / np.median(x) - 1) < 0.4)  # of a square all but the noise
    assert (near > 0.86) == (label == 'square')
