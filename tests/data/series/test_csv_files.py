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
  times, values, columns, utc, lines = read_csv(_FILE, 'f')
  assert not utc
  assert lines is None
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


@pytest.mark.parametrize('date', ['2020-01-01', '2020-1-1'])  # fast, and line by line
def test_a_meter_keeps_its_digits_as_float64(date):
  content = f't,a,b\n{date},10234567.31,0.1\n'.encode()
  how = {'time_column': 't', 'date_format': '%Y-%m-%d'}
  found = read_csv(content, 'f', **how, dtype='float64').values
  np.testing.assert_array_equal(found, [[10234567.31, 0.1]])
  found = read_csv(content, 'f', **how).values
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, np.float32([[10234567.31, 0.1]]))


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
    (b'29.2.20 23:59:59,1,2', "line 3, column 'Date Time'"),
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
  [
    ('%d.%m.%Z', '%Z is not among'),
    ('%d.%m', 'expected iso, epoch, rows, or a format with year'),
    ('%Y%m%d%d', 'once'),
    ('%Y-%m-%d %I:%M', '%I, of 12 hours, goes with %p'),
    ('%Y-%m-%d %H:%M %p', '%I, of 12 hours, goes with %p'),
    ('%Y-%m-%d %I %H %p', 'once'),
  ],
)
def test_a_date_format_that_does_not_do(date_format, message):
  with pytest.raises(InputError, match=f'`date_format.*{message}'):
    read_csv(_FILE, 'f', date_format=date_format)


@pytest.mark.parametrize(
  ('date_format', 'texts', 'expected'),
  [
    ('%m/%d/%Y %I:%M %p', ['12/31/2019 12:00 AM', '1/2/2020 3:05 PM'],
     ['2019-12-31T00:00:00', '2020-01-02T15:05:00']),
    ('%d-%b-%y %I%p', ['01-Feb-20 12PM', '29-Feb-20 01am'],
     ['2020-02-01T12:00:00', '2020-02-29T01:00:00']),
    ('%Y年%m月%d日', ['2020年01月31日', '2020年02月01日'],
     ['2020-01-31T00:00:00', '2020-02-01T00:00:00']),
    ('%Y-%m', ['1949-01', '1949-12'], ['1949-01-01T00:00:00', '1949-12-01T00:00:00']),
    ('%Y-%m-%d %H:%M', ['2020-1-2 3:04', '2020-11-12 13:14'],
     ['2020-01-02T03:04:00', '2020-11-12T13:14:00']),
    ('iso', ['2020-01-02', '2020-01-02 03:04', '2020-01-02T03:04:05.000'],
     ['2020-01-02T00:00:00', '2020-01-02T03:04:00', '2020-01-02T03:04:05']),
    # An hour of summer time: the clock goes on from +01:00 to +02:00.
    ('iso', ['2020-03-29T01:00+01:00', '2020-03-29T03:00+02:00', '2020-03-29T02:00Z'],
     ['2020-03-29T00:00:00', '2020-03-29T01:00:00', '2020-03-29T02:00:00']),
    ('epoch', ['0', '1577836800', '-1', '1.6e9'],
     ['1970-01-01T00:00:00', '2020-01-01T00:00:00', '1969-12-31T23:59:59',
      '2020-09-13T12:26:40']),
  ],
)  # fmt: skip
def test_a_time_in_each_form(date_format, texts, expected):
  content = '\n'.join(['when,a', *(f'{text},{i}' for i, text in enumerate(texts))])
  found = read_csv(content.encode(), 'f', time_column=None, date_format=date_format)
  assert [str(time) for time in found.times] == expected
  np.testing.assert_array_equal(found.values[:, 0], range(len(texts)))
  assert found.times.dtype == 'datetime64[s]'
  assert found.utc == ('Z' in texts[-1])


@pytest.mark.parametrize(
  ('date_format', 'good', 'bad', 'message'),
  [
    ('iso', '2020-01-01', '1.1.2020', 'a time of ISO 8601, like 2020-01-31 23:59, got'),
    ('iso', '2020-01-01', '2020-01-01T00:00Z', 'a time without an offset from UTC'),
    ('iso', '2020-01-01T00+02', '2020-01-01', 'a time with an offset from UTC'),
    (
      'iso',
      '2020-01-01T01Z',
      '0001-01-01T00:00+05:00',
      'a time of the years 1 to 9999',
    ),
    ('iso', '2020-01-01', '2020-01-01T00:00:00.5', 'a time of whole seconds'),
    ('epoch', '1', '1.5', 'whole seconds since 1970'),
    ('epoch', '1', '1_0', 'whole seconds since 1970'),
    ('epoch', '1', 'inf', 'whole seconds since 1970'),
    ('epoch', '1', '1577836800000', 'whole seconds since 1970'),  # milliseconds
    ('%Y-%m-%d %I %p', '2020-01-01 12 AM', '2020-01-01 13 AM', 'a time like %Y-%m-%d'),
    ('%Y%m%d', '20200111', '2020111', 'a time like %Y%m%d'),  # January or November
  ],
)
def test_a_time_of_another_form_is_named_by_line(date_format, good, bad, message):
  content = f'when,a\n{good},1\n{good},2\n{bad},3\n'.encode()
  with pytest.raises(
    InputError,
    match=f"^f: line 4, column 'when': expected {message}.*'; see `date_format`$",
  ):
    read_csv(content, 'f', time_column='when', date_format=date_format)


def test_rows_without_a_time_are_counted():
  found = read_csv(b'a,b\n1,2\n3,4\n', 'f', time_column=None, date_format='rows')
  np.testing.assert_array_equal(found.times, [1, 2])
  np.testing.assert_array_equal(found.values, [[1, 2], [3, 4]])
  assert found.columns == ('a', 'b')
  with pytest.raises(InputError, match='`date_format=rows` goes without `time_column`'):
    read_csv(b'a,b\n1,2\n', 'f', time_column='a', date_format='rows')
  for content in (b'', b'\n1\n'):
    with pytest.raises(InputError, match=r'line 1: expected names of columns, found $'):
      read_csv(content, 'f', time_column=None, date_format='rows')


_MIXED = 'when,a,note,sky,"b (x, y)"\n' + '\n'.join(
  f'2020-01-0{i + 1},{a},n{i},{sky},{i}'
  for i, (a, sky) in enumerate([(5, 'rain'), ('', 'clear'), (7, 'NA'), ('?', 'rain')])
)  # fmt: skip
_ISO = {'time_column': None, 'date_format': 'iso'}


def test_columns_are_chosen_or_left_out():
  fast = {'time_column': None, 'date_format': '%Y-%m-%d'}
  content = b'when,a,"b (x, y)",c\n2020-01-01,1,2,3\n2020-01-02,4,5,6\n'
  for how in (fast, _ISO):
    for columns, names, values in (
      ('', ('a', 'b (x, y)', 'c'), [[1, 2, 3], [4, 5, 6]]),
      ('c, a', ('a', 'c'), [[1, 3], [4, 6]]),
      ('-"b (x, y)"', ('a', 'b (x, y)', 'c'), None),  # the quotes belong around all
      ('"-b (x, y)"', ('a', 'c'), [[1, 3], [4, 6]]),
      ('-a,- c', ('b (x, y)',), [[2], [5]]),
    ):
      if values is None:
        with pytest.raises(InputError, match='and no '):
          read_csv(content, 'f', columns=columns, **how)
        continue
      found = read_csv(content, 'f', columns=columns, **how)
      assert found.columns == names
      np.testing.assert_array_equal(found.values, values)
    for columns, message in (
      ('a,d', r"`columns=a,d`: f has a, b \(x, y\), c, and no 'd'"),
      ('-a,c', "and no '-a'"),
      ('-d', "f has .*, and no 'd'"),
      ('-a,-c,"-b (x, y)"', 'leaves none'),
      ('when', "and no 'when'"),
    ):
      with pytest.raises(InputError, match=message):
        read_csv(content, 'f', columns=columns, **how)


def test_words_are_a_column_each_and_empty_cells_are_nan():
  options = {'columns': '-note', 'categories': 'sky', 'missing': True}
  found = read_csv(_MIXED.encode(), 'f', **_ISO, **options)
  assert found.columns == ('a', 'sky=clear', 'sky=rain', 'b (x, y)')
  nan = np.nan
  expected = [[5, 0, 1, 0], [nan, 1, 0, 1], [7, nan, nan, 2], [nan, 0, 1, 3]]
  np.testing.assert_array_equal(found.values, np.float32(expected))
  cold = _MIXED.replace('clear', 'kühl').encode()
  assert 'sky=kühl' in read_csv(cold, 'f', **_ISO, **options).columns


def test_a_column_not_to_read_may_have_lines_or_not_be_there():
  lines = ['when,a,note', '2020-01-01,1,"says ""no"",\nthen', '', 'yes"']
  lines += ['2020-01-02,2,short', '2020-01-03,x,"1\n2"', '2020-01-04,4,"open', 'end']
  text = '\n'.join(lines[:5])
  for line_end in ('\n', '\r\n'):
    content = text.replace('\n', line_end).encode()
    found = read_csv(content, 'f', **_ISO, columns='-note')
    np.testing.assert_array_equal(found.values, [[1], [2]])
    found = read_csv(content, 'f', **_ISO, categories='note', columns='note')
    assert found.columns == ('note=says "no",\nthen\n\nyes', 'note=short')
  for content, message in (
    ('\n'.join(lines), "line 7, column 'a': expected a number, got 'x'"),
    ('\n'.join(lines[:5] + lines[-2:]), 'line 7: unexpected end of data'),
    (text.replace(',1,', ',"1\n2",'), r"line 2, column 'a': .*, got '1\\n2'"),
  ):
    with pytest.raises(InputError, match=f'^f: {message}'):
      read_csv(content.encode(), 'f', **_ISO, columns='-note')
  for how in (_ISO, {**_ISO, 'date_format': '%Y-%m-%d'}):
    content = b'when,a,b\n2020-01-01,1,2\n'
    found = read_csv(content, 'f', **how, columns='-note,-b', strict=False)
    assert found.columns == ('a',)
    with pytest.raises(InputError, match=r"`columns=note,b`: f has .*, and no 'note'"):
      read_csv(content, 'f', **how, columns='-note,-b')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({}, "line 2, column 'note': expected a number, got 'n0'; `categories` names"),
    ({'columns': '-note'}, "line 2, column 'sky': expected a number, got 'rain'; `cat"),
    ({'columns': 'a'}, "line 3, column 'a': expected a number, got ''; `missing` says"),
    (
      {'columns': 'sky', 'categories': 'sky'},
      "line 4, column 'sky': expected a word, got 'NA'",
    ),
    ({'columns': 'a', 'categories': 'sky'}, "`categories=sky`: f has a, and no 'sky'"),
  ],
)
def test_a_cell_that_is_none_says_what_helps(options, message):
  with pytest.raises(InputError, match=message):
    read_csv(_MIXED.encode(), 'f', **_ISO, **options)


def test_layouts_of_public_files():
  """Beijing's air, with its time in four columns; Seattle's weather; passengers."""
  air = b'No,year,month,day,hour,pm2.5,cbwd\n1,2010,1,1,9,NA,NW\n2,2010,1,1,10,129,cv\n'
  found = read_csv(
    air,
    'f',
    time_column='year,month,day,hour',
    date_format='%Y %m %d %H',
    columns='-No',
    categories='cbwd',
    missing=True,
  )
  assert [str(t) for t in found.times] == ['2010-01-01T09:00:00', '2010-01-01T10:00:00']
  assert found.columns == ('pm2.5', 'cbwd=NW', 'cbwd=cv')
  np.testing.assert_array_equal(found.values, [[np.nan, 1, 0], [129, 0, 1]])
  weather = b'date,temp_max,weather\n2012/01/01,12.8,drizzle\n2012/01/02,10.6,rain\n'
  found = read_csv(
    weather, 'f', time_column='date', date_format='%Y/%m/%d', categories='weather'
  )
  np.testing.assert_array_equal(found.values, np.float32([[12.8, 1, 0], [10.6, 0, 1]]))
  passengers = b'"Month","Passengers"\n"1949-01",112\n"1949-02",118\n'
  found = read_csv(
    passengers, 'f', time_column=None, date_format='rows', columns='-Month'
  )
  np.testing.assert_array_equal(found.values, [[112], [118]])


def test_what_is_no_category():
  rows = [f'2020-01-01,w{i}' for i in range(101)]
  content = '\n'.join(['when,a', *rows]).encode()
  with pytest.raises(InputError, match=r"column 'a' has 101 different words, .* 100"):
    read_csv(content, 'f', **_ISO, categories='a')
  with pytest.raises(InputError, match="column 'a' holds no word"):
    read_csv(b'when,a\n2020-01-01,NA\n', 'f', **_ISO, categories='a', missing=True)
  content = b'when,a,a=x\n2020-01-01,x,1\n'
  with pytest.raises(InputError, match='two columns of one name'):
    read_csv(content, 'f', **_ISO, categories='a')


def test_both_ways_of_reading_give_the_same_bits(tmp_path):
  series = synthetic_weather.weather(3, 70, faults=True)
  write_csv(series, tmp_path / 'a.csv')
  content = (tmp_path / 'a.csv').read_bytes()
  slow = read_csv(content.replace(b'01.01.2009 00:', b'1.1.2009 00:'), 'a.csv')
  np.testing.assert_array_equal(slow.times, series.times)
  np.testing.assert_array_equal(slow.values, series.values)


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
    times, values, columns, *_ = read_csv(
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
