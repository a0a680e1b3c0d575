"""Reading a series from CSV: the round trip, and one line about each fault."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.csv_files import read_csv
from seqjax.data.series.series import write_csv
from seqjax.types import InputError

_FILE = (
  b'Date Time,a,"b (x, y)"\n01.02.2020 00:10:00,1,2.5\n29.02.2020 23:59:59,-3e2,4\n'
)


@pytest.mark.parametrize('quoted', [False, True])
@pytest.mark.parametrize('line_end', [b'\n', b'\r\n'])
def test_what_was_written_is_read(tmp_path, quoted, line_end):
  series = synthetic_weather.weather(3, 70, faults=True)
  write_csv(series, tmp_path / 'a.csv', quoted=quoted)
  content = (tmp_path / 'a.csv').read_bytes().replace(b'\n', line_end)
  found = read_csv(content, 'a.csv')
  np.testing.assert_array_equal(found.times, series.times)
  np.testing.assert_array_equal(found.values, series.values)
  assert found.values.dtype == np.float32
  assert found.columns == series.columns


def test_names_times_and_numbers():
  times, values, columns = read_csv(_FILE, 'f')
  assert columns == ('a', 'b (x, y)')
  assert [str(t) for t in times] == ['2020-02-01T00:10:00', '2020-02-29T23:59:59']
  np.testing.assert_array_equal(values, [[1, 2.5], [-300, 4]])


@pytest.mark.parametrize('place', [0, 1, 2])
def test_the_time_column_may_be_anywhere(place):
  fields = [['n', 'm'], ['1', '2'], ['3', '4']]
  for row, time in zip(fields, ['when', '2021-01-31T05', '2021-02-01T06'], strict=True):
    row.insert(place, time)
  content = '\n'.join(map(','.join, fields)).encode()
  found = read_csv(content, 'f', time_column='when', date_format='%Y-%m-%dT%H')
  assert found.columns == ('n', 'm')
  np.testing.assert_array_equal(found.values, [[1, 2], [3, 4]])
  assert str(found.times[1]) == '2021-02-01T06:00:00'


def test_latin_1_names():
  content = 'Date Time,µ\n01.01.2020 00:00:00,1\n'.encode('latin-1')
  assert read_csv(content, 'f').columns == ('µ',)


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('tail', [b'', b'\n', b'\n   \n', b'\n\n \t\n'])
@pytest.mark.parametrize('line_end', [b'\n', b'\r\n', b'\r\r\n', b'\r'])
def test_line_ends_blank_ends_and_a_mark(line_end, tail, mark):
  content = mark + (_FILE.rstrip() + tail).replace(b'\n', line_end)
  for found, expected in zip(read_csv(content, 'f'), read_csv(_FILE, 'f'), strict=True):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('delimiter', [',', ';', 'tab'])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_blanks_behind_what_is_between_columns(delimiter, place):
  rows = [['a (x)', ' "b, c"'], [' 1', '  -2.5'], ['3', ' 4']]
  times = ['Date Time', '01.02.2020 00:10:00', ' "01.02.2020 00:20:00"']
  for row, time in zip(rows, times, strict=True):
    row.insert(place, time)
  sign = {'tab': '\t'}.get(delimiter, delimiter)
  content = '\n'.join((sign + ' ').join(row) for row in rows).encode()
  found = read_csv(content, 'f', delimiter=delimiter)
  assert found.columns == ('a (x)', 'b, c')
  np.testing.assert_array_equal(found.values, [[1, -2.5], [3, 4]])
  assert [str(t)[11:] for t in found.times] == ['00:10:00', '00:20:00']


@pytest.mark.parametrize('place', [0, 1, 3])
def test_date_and_time_of_day_in_two_columns(place):
  rows = [['a', 'b', 'c'], ['1', '-2,5', '3'], ['4', '5', '6']]
  times = [['Date', 'Time'], ['10/03/2004', '18.00'], ['11/03/2004', '19.30']]
  for row, time in zip(rows, times, strict=True):
    row[place:place] = time
  lines = [';'.join(row) + ';;' for row in rows]  # as some programs end a line
  content = '\r\n'.join([*lines, ';;;;;;', ';;;;;;', '']).encode()
  options = {'time_column': 'Date, Time', 'date_format': '%d/%m/%Y %H.%M'}
  options |= {'delimiter': ';', 'decimal': ','}
  found = read_csv(content, 'f', **options)
  assert found.columns == ('a', 'b', 'c')
  np.testing.assert_array_equal(found.values, [[1, -2.5, 3], [4, 5, 6]])
  assert [str(t) for t in found.times] == ['2004-03-10T18:00:00', '2004-03-11T19:30:00']
  for old, new, message in (
    (b'19.30', b'19.30.', "line 3, column 'Date,Time': .*, got '11/03/2004 19.30.'"),
    (b'11/03', b'11/03/', "line 3, column 'Date,Time': .*, got '11/03//2004 19.30'"),
    (b'Date;Time', b'Time;Date', "line 1: expected a time column 'Date, Time'"),
  ):
    with pytest.raises(InputError, match=message):
      read_csv(content.replace(old, new), 'f', **options)


def test_an_empty_last_value_is_not_taken_for_an_unnamed_one():
  content = b'Date Time,a,,\n01.02.2020 00:10:00,1,,\n01.02.2020 00:20:00,,,\n'
  with pytest.raises(InputError, match="line 3, column 'a': expected a number, got ''"):
    read_csv(content, 'f')
  with pytest.raises(InputError, match='line 3: expected 2 fields, found 4'):
    read_csv(content.replace(b'00,,,', b'00,1,2,'), 'f')


def test_blanks_of_a_date_stay():
  content = b'a;Date Time\n1;2020-01-02, 03:04\n2;2020-01-02, 03:05\n'
  options = {'delimiter': ';', 'date_format': '%Y-%m-%d, %H:%M'}
  for decimal in ('.', ','):
    found = read_csv(content, 'f', **options, decimal=decimal)
    assert str(found.times[1]) == '2020-01-02T03:05:00'
  content = content.replace(b',', b'').replace(b';', b',').replace(b'2020-', b' 2020-')
  found = read_csv(content, 'f', date_format='%Y-%m-%d %H:%M')
  assert str(found.times[1]) == '2020-01-02T03:05:00'


def test_semicolons_and_decimal_commas():
  content = b'Date Time;a;b\n01.02.2020 00:10:00;1,5;-2\n01.02.2020 00:20:00;3;4e-1\n'
  options = {'delimiter': ';', 'decimal': ','}
  found = read_csv(content, 'f', **options)
  np.testing.assert_array_equal(found.values, np.float32([[1.5, -2], [3, 0.4]]))
  # 1.234 is 1234 where decimals have a comma: nobody is to take it for 1.234.
  for number in (b'1.234', b'1.234,5', b'1,2,3'):
    message = f"line 2, column 'a': expected a number, got '{number.decode()}'"
    message += '; with `decimal=,` a number has no point' if b'.' in number else '$'
    with pytest.raises(InputError, match=message):
      read_csv(content.replace(b'1,5', number), 'f', **options)
  with pytest.raises(InputError, match=r"line 2, column 'a': .*'1,5'; see `decimal`"):
    read_csv(content, 'f', delimiter=';')
  with pytest.raises(InputError, match=r'line 1: .*; with `delimiter=;` it is there'):
    read_csv(content, 'f')
  with pytest.raises(InputError, match='`delimiter=,` is `decimal=,` too'):
    read_csv(content, 'f', decimal=',')


def test_utf_16_is_told():
  with pytest.raises(InputError, match='f, line 1 is not UTF-8; it looks like UTF-16'):
    read_csv(_FILE.decode().encode('utf-16'), 'f')


_ROW = b'29.02.2020 23:59:59,-3e2,4'


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (b'29.02.2020 23:59:59,x,4', "line 3, column 'a': expected a number, got 'x'"),
    (b'29.02.2020 23:59:59,,4', "line 3, column 'a': expected a number, got ''"),
    (b'29.02.2020 23:59:59,3,nan', "line 3, column 'b .x, y.': .* got 'nan'"),
    (b'29.02.2020 23:59:59,1e39,4', "line 3, column 'a': expected a number"),
    (b'29.02.2020 23:59:59,1', 'line 3: expected 3 fields, found 2'),
    (b'29.02.2020 23:59:59,1,2,3', 'line 3: expected 3 fields, found 4'),
    (b'', 'line 3: expected 3 fields, found 0'),
    (b'  ', 'line 3: expected 3 fields, found 0'),
    (b'29.02.2020 23:59:59,1_000,4', "line 3, column 'a': .*, got '1_000'"),
    (b'29.02.2020 23:59:59,1e,4', "line 3, column 'a': .*, got '1e'"),
    (b'29.02.2020 23:59:59,"1,4', 'line 3: unexpected end of data'),
    (b'29.02.2021 23:59:59,1,2', "line 3, column 'Date Time': .*'29.02.2021 23"),
    (b'29.13.2020 23:59:59,1,2', "line 3, column 'Date Time'"),
    (b'29.02.2020 24:00:00,1,2', "line 3, column 'Date Time'"),
    (b'29.02.2020 23:60:00,1,2', "line 3, column 'Date Time'"),
    (b'29.2.2020 23:59:59,1,2', "line 3, column 'Date Time'"),
    (b'29.02.2020 23:59:599,1,2', "line 3, column 'Date Time'"),
    (b'29-02-2020 23:59:59,1,2', "line 3, column 'Date Time'"),
  ],
)
def test_a_fault_is_named_by_line_and_column(row, message):
  content = _FILE.replace(_ROW, row) + b'01.03.2020 00:00:00,5,6\n'
  with pytest.raises(InputError, match=f'^f: {message}'):
    read_csv(content, 'f')


def test_every_date_that_the_calendar_has_and_no_other():
  days = np.arange('1999-01-01', '2005-01-01', dtype='datetime64[D]')
  valid = {str(day) for day in days}
  for year in range(1999, 2005):
    for month in range(14):
      for day in (0, 1, 28, 29, 30, 31, 32):
        text = f'{year}-{month:02}-{day:02}'
        content = f't,a\n{text},1\n'.encode()
        if text in valid:
          found = read_csv(content, 'f', time_column='t', date_format='%Y-%m-%d')
          assert str(found.times[0])[:10] == text
        else:
          with pytest.raises(InputError, match="line 2, column 't'"):
            read_csv(content, 'f', time_column='t', date_format='%Y-%m-%d')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', "line 1: expected a time column 'Date Time'"),
    (b'Time,a\n1,2\n', "line 1: expected a time column 'Date Time', found 'Time', 'a'"),
    (b'Date Time,a,a\n1,2,3\n', 'line 1: .* each once'),
    (b'Date Time\n1\n', 'line 1: expected the time column and others'),
    (b'Date Time,a\n', 'line 2: expected a row of numbers, the file ends'),
  ],
)
def test_a_header_that_does_not_do(content, message):
  with pytest.raises(InputError, match=message):
    read_csv(content, 'f')


@pytest.mark.parametrize('time_column', ['', 'a,Date Time', 'Date Time,b', ','])
def test_a_time_column_that_is_not_there(time_column):
  with pytest.raises(InputError, match=f"a time column '{time_column}', found 'Date T"):
    read_csv(_FILE, 'f', time_column=time_column)


def test_a_time_column_without_a_name():
  for content in (b',a\n2020-01-02,1\n', b'a,\n1,2020-01-02\n'):
    found = read_csv(content, 'f', time_column='', date_format='%Y-%m-%d')
    assert found.columns == ('a',)
    assert str(found.times[0]) == '2020-01-02T00:00:00'


@pytest.mark.parametrize(
  ('date_format', 'message'),
  [('%d.%m.%y', '%y is not among'), ('%d.%m', 'needs %Y'), ('%Y%m%d%d', 'once')],
)
def test_a_date_format_that_does_not_do(date_format, message):
  with pytest.raises(InputError, match=f'`date_format.*{message}'):
    read_csv(_FILE, 'f', date_format=date_format)


@settings(deadline=None, max_examples=300)
@given(
  delimiter=st.sampled_from([',', ';', 'tab']),
  decimal=st.sampled_from(['.', ',']),
  at=st.integers(0, 200),
  new=st.binary(max_size=3)
  | st.sampled_from([b'"', b'\r', b', ', b';;', b'1_0', b'\n ']),
)
def test_damage_is_read_or_named_in_words_of_our_own(delimiter, decimal, at, new):
  sign = {'tab': b'\t'}.get(delimiter, delimiter.encode())
  rows = _FILE.replace(b'"b (x, y)"', b'b').replace(b',', sign)
  content = rows.replace(b'2.5', b'2%b5' % decimal.encode())
  at %= len(content)
  content = content[:at] + new + content[at + 1 :]
  try:
    times, values, columns = read_csv(
      content, 'f', delimiter=delimiter, decimal=decimal
    )
  except InputError as error:
    message = str(error)
  else:
    assert np.isfinite(values).all()
    assert values.shape == (len(times), len(columns))
    return
  assert '\n' not in message
  for word in ('usecols', 'loadtxt', 'dtype', 'could not convert'):
    assert word not in message
