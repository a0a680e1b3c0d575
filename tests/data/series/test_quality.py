"""Each rule about faults, on rows made up to have them."""

import numpy as np
import pytest

from seqjax.data.series import quality
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
  assert lines['gaps'].startswith('1 (2 steps missing)')
