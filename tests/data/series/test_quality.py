"""Each rule about faults, on rows made up to have them."""

import numpy as np
import pytest

from seqjax.data.series import csv_files, quality
from seqjax.data.series.series import Series
from seqjax.types import InputError


def _series(minutes, values=None):
  times = np.datetime64('2020-01-01T00:00:00') + np.timedelta64(1, 'm') * np.asarray(
    minutes
  )
  if values is None:
    values = [[10 * m, m] for m in minutes]
  return Series(times, np.asarray(values, np.float32), ('a', 'b'))


def test_a_series_without_faults_stays_as_it_is():
  series = _series(range(0, 100, 10))
  clean = quality.clean(series, 'f')
  np.testing.assert_array_equal(clean.series.values, series.values)
  np.testing.assert_array_equal(clean.segments, 0)
  np.testing.assert_array_equal(clean.file_rows, range(10))
  report = clean.report
  assert (report.rows, report.kept, report.step_seconds) == (10, 10, 600)
  assert report.first == '2020-01-01T00:00:00'
  assert report.last == '2020-01-01T01:30:00'
  for name in ('out_of_order', 'repeated', 'sentinels', 'dropped', 'gaps', 'missing'):
    assert getattr(report, name) == 0


def test_rows_are_sorted_and_the_first_of_a_time_is_kept():
  clean = quality.clean(
    _series([0, 10, 30, 20, 20, 40], [[i, i] for i in range(6)]), 'f'
  )
  np.testing.assert_array_equal(clean.series.values[:, 0], [0, 1, 3, 2, 5])
  np.testing.assert_array_equal(clean.file_rows, [0, 1, 3, 2, 5])
  assert clean.report.out_of_order == 2
  assert clean.report.repeated == 1
  assert clean.report.gaps == 0


def test_gaps_cut_the_series_and_are_counted():
  clean = quality.clean(_series([0, 10, 20, 50, 60, 65, 75, 85]), 'f')
  np.testing.assert_array_equal(clean.segments, [0, 0, 0, 1, 1, 2, 2, 2])
  assert clean.report.gaps == 2
  assert clean.report.missing == 2  # 30 and 40; 65 is only too early


def test_a_sentinel_becomes_the_value_before_for_an_hour():
  values = np.arange(40, dtype=np.float32).reshape(20, 2)
  values[3, 1] = -9999
  values[5:11, 0] = -9999  # six rows of ten minutes: the last is an hour old
  values[12:19, 1] = -9999  # seven: the last is too old
  values[0, 1] = -9999  # nothing before it
  clean = quality.clean(_series(range(0, 200, 10), values), 'f')
  np.testing.assert_array_equal(clean.file_rows, [*range(1, 18), 19])
  by_row = dict(zip(clean.file_rows, clean.series.values, strict=True))
  assert by_row[3].tolist() == [6, 5]
  assert [by_row[r][0] for r in range(5, 11)] == [8] * 6
  assert [by_row[r][1] for r in range(12, 18)] == [23] * 6
  report = clean.report
  assert (report.sentinels, report.repaired, report.dropped) == (15, 13, 2)
  assert (report.gaps, report.missing) == (1, 1)
  np.testing.assert_array_equal(clean.segments, [0] * 17 + [1])


def test_nothing_of_the_future_comes_into_a_repaired_value():
  values = np.arange(20, dtype=np.float32).reshape(10, 2)
  values[4, 0] = -9999
  late = values.copy()
  late[5:] = 77
  a, b = (quality.clean(_series(range(0, 100, 10), v), 'f') for v in (values, late))
  np.testing.assert_array_equal(a.series.values[:5], b.series.values[:5])


def test_the_age_of_a_value_counts_across_gaps():
  clean = quality.clean(
    _series([0, 10, 20, 90, 100, 110], [[i, i if i != 3 else -9999] for i in range(6)]),
    'f',
  )
  assert clean.report.dropped == 1  # the value before it is 70 minutes old
  np.testing.assert_array_equal(clean.file_rows, [0, 1, 2, 4, 5])


def test_another_sentinel_and_step():
  clean = quality.clean(
    _series([0, 5, 15, 20], [[1, 1], [2, 99], [3, 3], [4, 4]]),
    'f',
    step_minutes=5,
    sentinel=99,
  )
  assert clean.report.repaired == 1
  assert clean.report.gaps == 1


@pytest.mark.parametrize(
  ('minutes', 'values', 'step', 'message'),
  [
    ([0], None, None, 'at least two rows'),
    ([0, 10, 20], None, 60, '2 of 2 rows do not come 60 minutes .* steps of 10 to 10 '),
    ([0, 10, 20], None, 0.001, '`step_minutes=0.001` must be a second at least'),
    ([0, 10], [[-9999, 1], [-9999, 1]], None, 'no row without the sentinel -9999'),
  ],
)
def test_what_cannot_be_used_is_said(minutes, values, step, message):
  with pytest.raises(InputError, match=f'^f: .*{message}'):
    quality.clean(_series(minutes, values), 'f', step_minutes=step)


def test_an_irregular_series_says_how_its_steps_differ():
  message = (
    'f: 3 of 4 rows do not come 10 minutes after the one before: '
    'steps of 5 to 33 minutes, the first at 2020-01-01T00:10:00; '
  )
  with pytest.raises(InputError, match=message):
    quality.clean(_series([0, 10, 15, 48, 65]), 'f', step_minutes=10)
  with pytest.raises(InputError, match='3 of 4 rows do not come 5 minutes'):
    quality.clean(_series([0, 10, 15, 48, 65]), 'f')


def test_the_report_counts_in_words():
  clean = quality.clean(_series([0, 10, 20, 50, 50, 60, 70]), 'f')
  lines = clean.report.lines()
  assert lines['rows'] == '7 in the file, 6 kept'
  assert lines['repeated'] == '1 rows, dropped'
  assert lines['gaps'] == '1 (2 steps missing); no window crosses one'
  lines = clean.report.lines(across_gaps=True)
  assert lines['gaps'] == '1 (2 steps missing); windows cross them'


_NAN = np.nan
# Rows 0, 10, 20, 40, 50 and 60 minutes; column b is of words.
_HOLES = [
  [_NAN, 1],
  [1, _NAN],
  [-9999, 0],
  [7, _NAN],
  [9, 1],
  [_NAN, _NAN],
]


def _clean(missing, **options):
  series = _series([0, 10, 20, 40, 50, 60], _HOLES)
  return quality.clean(series, 'f', missing=missing, **options)


@pytest.mark.parametrize(
  ('missing', 'options', 'kept', 'values', 'filled'),
  [
    ('previous', {}, [1, 2, 3, 4, 5], [[1, 1], [1, 0], [7, 0], [9, 1], [9, 1]],
     [[0, 1], [1, 0], [0, 1], [0, 0], [1, 1]]),
    # At 20 minutes a third of the way from 10 (1) to 40 (7); b between 1 and 0 at 0 and
    # 20 minutes, between 0 and 1 at 20 and 50.
    ('interpolate', {}, [1, 2, 3, 4], [[1, 0.5], [3, 0], [7, 2 / 3], [9, 1]],
     [[0, 1], [1, 0], [0, 1], [0, 0]]),
    ('interpolate', {'held': ['b']}, [1, 2, 3, 4], [[1, 1], [3, 0], [7, 0], [9, 1]],
     [[0, 1], [1, 0], [0, 1], [0, 0]]),
    ('gap', {}, [4], [[9, 1]], [[0, 0]]),
    ('hour', {}, [1, 2, 3, 4, 5], [[1, 1], [1, 0], [7, 0], [9, 1], [9, 1]],
     [[0, 1], [1, 0], [0, 1], [0, 0], [1, 1]]),
  ],
)  # fmt: skip
def test_what_becomes_of_a_missing_value(missing, options, kept, values, filled):
  clean = _clean(missing, **options)
  np.testing.assert_array_equal(clean.file_rows, kept)
  np.testing.assert_allclose(clean.series.values, values, rtol=1e-6)
  np.testing.assert_array_equal(clean.filled, np.array(filled, bool))
  assert clean.report.sentinels == 6
  assert clean.report.repaired == np.sum(filled)
  assert clean.report.dropped == 6 - len(kept)
  words = clean.report.lines(missing)
  name = 'sentinels' if missing == 'hour' else 'missing values'
  become = 'interpolated' if missing == 'interpolate' else 'replaced by the one before'
  assert f'6 values: {np.sum(filled)} {become}' in words[name]


def test_a_missing_value_is_refused_by_its_line():
  with pytest.raises(
    InputError, match=r"^f: line 2, column 'a': a value is missing; `m"
  ):
    _clean('refuse')
  series = _series(range(0, 60, 10))
  assert len(quality.clean(series, 'f', missing='refuse').file_rows) == 6
  series.values[4, 1] = -9999
  late = series._replace(times=series.times[::-1])  # the line of the file, not of time
  with pytest.raises(InputError, match=r"^f: line 6, column 'b': a value is missing"):
    quality.clean(late, 'f', missing='refuse')
  broken = b't,a,note\n2020-01-01,1,"x\ny"\n2020-01-02,-9999,z\n2020-01-03,2,z\n'
  how = {'time_column': 't', 'date_format': 'iso', 'columns': '-note'}
  with pytest.raises(InputError, match=r"^f: line 4, column 'a': a value is missing"):
    quality.clean(csv_files.read_csv(broken, 'f', **how), 'f', missing='refuse')
  assert quality.clean(series, 'f', missing='refuse', sentinel=None).report.kept == 6


def test_a_value_before_is_taken_however_old():
  values = np.ones((20, 2), np.float32)
  values[2:19, 0] = np.nan
  series = _series(range(0, 200, 10), values)
  assert quality.clean(series, 'f', missing='previous').report.kept == 20
  assert quality.clean(series, 'f').report.kept == 20 - 11
  values[:, 1] = np.nan
  for missing in ('previous', 'interpolate', 'gap'):
    with pytest.raises(InputError, match='f: no row without a missing value is left'):
      quality.clean(series, 'f', missing=missing, sentinel=None)


def test_rows_without_a_time_follow_one_another():
  series = Series(np.arange(1, 7), np.ones((6, 2), np.float32), ('a', 'b'))
  series.values[3, 0] = np.nan
  clean = quality.clean(series, 'f', missing='gap')
  np.testing.assert_array_equal(clean.segments, [0, 0, 0, 1, 1])
  np.testing.assert_array_equal(clean.series.times, [1, 2, 3, 5, 6])
  assert clean.report.lines('gap')['period'] == 'rows 1 to 6'


@pytest.mark.parametrize('missing', ['refuse', 'previous', 'interpolate', 'gap'])
def test_the_0_of_a_word_is_no_sentinel(missing):
  values = np.array([[5, 1, 0], [6, 0, 1], [7, 1, 0], [8, 0, 1]], np.float32)
  times = _series(range(0, 40, 10)).times
  series = Series(times, values, ('a', 'sky=clear', 'sky=rain'))
  how = {'sentinel': 0, 'missing': missing, 'held': series.columns[1:]}
  clean = quality.clean(series, 'f', **how)
  np.testing.assert_array_equal(clean.series.values, values)
  np.testing.assert_array_equal(quality.complete(series, 'f', **how).values, values)
  values[2, 0] = 0  # of a number it is
  if missing == 'refuse':
    with pytest.raises(InputError, match="line 4, column 'a': a value is missing"):
      quality.clean(series, 'f', **how)
    return
  found = {'previous': [5, 6, 6, 8], 'interpolate': [5, 6, 7, 8], 'gap': [5, 6, 8]}
  clean = quality.clean(series, 'f', **how)
  np.testing.assert_array_equal(clean.series.values[:, 0], found[missing])
  np.testing.assert_array_equal(clean.series.values[:, 1:], values[clean.file_rows, 1:])
