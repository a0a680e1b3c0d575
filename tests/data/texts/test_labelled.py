"""Texts of one's own: every layout gives the same, every fault its file and line."""

import json
from collections import Counter

import pytest

from seqjax.data.texts import labelled
from seqjax.data.texts.tables import column_names, read_table
from seqjax.types import InputError

ROWS = [
  ('good\nsecond line, with "quotes"', 'up'),
  ('schlecht ä', 'down'),
  ('so\u2028so', 'so la la'),
  *((f'text {i}', ('up', 'down', 'so la la')[i % 3]) for i in range(27)),
]


def _csv(path, rows=ROWS):
  quote = lambda s: '"' + s.replace('"', '""') + '"'  # noqa: E731
  lines = [
    'id,label,text',
    *(f'{i},{quote(l)},{quote(t)}' for i, (t, l) in enumerate(rows)),
  ]
  path.write_bytes('\ufeff'.encode() + '\r\n'.join(lines).encode())


def _jsonl(path, rows=ROWS):
  lines = [json.dumps({'text': t, 'label': l}, ensure_ascii=False) for t, l in rows]
  path.write_text('\n\n'.join(lines), encoding='utf-8', newline='')


def _folder(path, rows=ROWS):
  for i, (text, label) in enumerate(rows):
    (path / label).mkdir(parents=True, exist_ok=True)
    (path / label / f'{i}.txt').write_text(text, encoding='utf-8', newline='')
    (path / label / f'._{i}.txt').write_bytes(b'\x00 of a Mac')
  (path / '.DS_Store').write_bytes(b'\x00')
  (path / '__MACOSX').mkdir()


@pytest.mark.parametrize(
  ('name', 'write'), [('a.csv', _csv), ('a.jsonl', _jsonl), ('folder', _folder)]
)
def test_every_layout_gives_the_same_texts(tmp_path, name, write):
  write(tmp_path / name)
  splits = labelled.load(str(tmp_path / name), validation_split=0.2, test_split=0.3)
  found = [
    pair for part in splits for pair in zip(part.texts, part.labels, strict=True)
  ]
  assert sorted(found) == sorted(ROWS)
  # Ten of each class: its share of each part.
  assert [Counter(part.labels) for part in splits] == [
    dict.fromkeys(('up', 'down', 'so la la'), n) for n in (5, 2, 3)
  ]
  again = labelled.load(str(tmp_path / name), validation_split=0.2, test_split=0.3)
  assert again == splits
  other = labelled.load(
    str(tmp_path / name), validation_split=0.2, test_split=0.3, seed=1
  )
  assert other.test != splits.test


def test_tsv_takes_quotation_marks_as_they_are(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('name\ttext\n"up\the said "go" \n\ndown\t"\n')
  rows = read_table(path, ('text', 'name'))
  assert [row.values for row in rows] == [('he said "go" ', '"up'), ('"', 'down')]
  assert rows[1].location == f'{path}, line 4'


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('a.csv', '\n"label";part\nup;train\n'),
    ('a.tsv', '\nlabel\t"a\tpart\nup\tx\ttrain\n'),
    ('a.jsonl', '\n{"label": "up"}\n{"label": "up", "part": "train"}\n'),
  ],
)
def test_columns_are_found_where_rows_are_read(tmp_path, name, content):
  path = tmp_path / name
  path.write_text(content)
  assert {'label', 'part'} <= column_names(path)
  if name != 'a.jsonl':  # whose first row has no part
    assert [row.values for row in read_table(path, ('label', 'part'))] == [
      ('up', 'train')
    ]


@pytest.mark.parametrize('end', ['\r\n', '\r\r\n', '\r'])
def test_line_ends_of_every_system_are_alike(tmp_path, end):
  tables = {
    'a.csv': 'text,label\n"the\nplot", up\n x, "q, r"\n',
    'b.csv': 'text, "label"\nthe, up\n',
    'a.tsv': 'text\tlabel\nthe plot\tup\n\n"x\tq\n',
    'a.jsonl': '{"text": "the plot", "label": "up"}\n\n{"text": "x", "label": "q"}\n',
  }
  for name, table in tables.items():
    path = tmp_path / name
    path.write_bytes(table.encode())
    expected = read_table(path, ('text', 'label'))
    path.write_bytes(table.replace('\n', end).encode())
    assert read_table(path, ('text', 'label')) == expected
    if name == 'a.csv':
      assert [row.values for row in expected] == [('the\nplot', 'up'), ('x', 'q, r')]
      assert expected[1].location == f'{path}, line 4'
  for label in 'ab':
    (tmp_path / 'folder' / label).mkdir(parents=True)
    for i in range(4):
      path = tmp_path / 'folder' / label / f'{i}.txt'
      path.write_bytes(f'the plot{end}was'.encode())
  found = labelled.load(str(tmp_path / 'folder'), validation_split=0.3, test_split=0.3)
  assert {text for part in found for text in part.texts} == {'the plot\nwas'}


@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
def test_csv_is_parted_by_what_its_first_line_is(tmp_path, delimiter):
  path = tmp_path / 'a.csv'
  rows = [('label', 'text'), ('a', '"x, y; z"'), ('b', 'w')]
  path.write_text('\n'.join(delimiter.join(row) for row in rows))
  found = [row.values for row in read_table(path, ('text', 'label'))]
  assert found == [('x, y; z', 'a'), ('w', 'b')]


def test_a_text_longer_than_the_csv_module_allows_is_read(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(f'text,label\n{"long " * 40_000},a\nshort,b\n')
  assert len(read_table(path, ('text',))[0].values[0]) == 200_000


def test_parts_of_a_split_are_taken_as_they_are(tmp_path):
  _csv(tmp_path / 'train.csv', ROWS[:20])
  _jsonl(tmp_path / 'dev.jsonl', ROWS[20:25])
  (tmp_path / 'README.txt').write_text('not a part')
  splits = labelled.load(str(tmp_path), test_split=0.2)
  assert splits.validation.texts == [text for text, _ in ROWS[20:25]]
  assert len(splits.train.texts) + len(splits.test.texts) == 20
  for part in ('train', 'test'):
    _folder(tmp_path / 'folders' / part, ROWS[:9])
  splits = labelled.load(str(tmp_path / 'folders'), validation_split=0.3)
  assert sorted(splits.test.texts) == sorted(text for text, _ in ROWS[:9])
  assert len(splits.train.texts) == 6


@pytest.mark.parametrize(
  ('name', 'content', 'match'),
  [
    ('a.csv', b'text,label\nx,a\ny\n', r'a\.csv, line 3 has 1 fields .* 2 columns'),
    ('a.csv', b'text,label\nx,a\n"two\nlines",\n', r'line 3: .label. is empty'),
    ('a.csv', b'text,label\nx,a\n"y,b\n', r'a\.csv, line 3: unexpected end'),
    ('a.csv', b'text,label\n  ,a\n', r'line 2: .text. is empty'),
    ('a.csv', b'text,class\nx,a\n', r"no column 'label', but 'text', 'class'"),
    ('a.csv', b'', r"no column 'text', but none"),
    ('a.csv', b'text,label\n', r'holds no row'),
    ('a.csv', 'text,label\nx,a\né,b\n'.encode('latin-1'), r'a\.csv, line 3 is not'),
    ('a.csv', b'text,label\nx,a\ny,a\n', r"only the class 'a'"),
    ('a.tsv', b'text\tlabel\nx\ta\ty\n', r'line 2 has 3 fields'),
    ('a.jsonl', b'{"text": "x", "label": "a"}\n{"text": \n', r'line 2 is no JSON'),
    ('a.jsonl', b'[1]\n', r'line 1 must be a JSON object'),
    ('a.jsonl', b'{"text": "x"}\n', r"line 1 has no 'label', but text"),
    ('a.jsonl', b'{"text": null, "label": "a"}\n', r"'text' must be a string"),
    ('a.txt', b'x', r'expected one of \.csv'),
  ],
)  # fmt: skip
def test_a_fault_is_named_by_file_and_line(tmp_path, name, content, match):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError, match=match):
    labelled.load(str(tmp_path / name))


def test_folders_that_cannot_be_are_refused(tmp_path):
  def refused(match, **options):
    with pytest.raises(InputError, match=match):
      labelled.load(str(tmp_path), **options)

  refused('holds no folder of a class')
  (tmp_path / 'a').mkdir()
  refused("the class 'a' is empty")
  (tmp_path / 'a' / '1.txt').write_text('x')
  refused("only the class 'a'", test_split=0.5)
  (tmp_path / 'b').mkdir()
  (tmp_path / 'b' / '1.txt').write_text(' \n')
  refused(r'1\.txt is empty')
  (tmp_path / 'b' / '1.txt').write_text('y')
  refused('`test_split=0.1` of 2 texts leaves none for test')
  _csv(tmp_path / 'test.csv')
  refused('nothing called train')
  with pytest.raises(InputError, match='no such file'):
    labelled.load(str(tmp_path / 'none'))


def test_a_label_of_the_test_alone_is_refused_with_its_line(tmp_path):
  _csv(tmp_path / 'train.csv', ROWS)
  _csv(tmp_path / 'test.csv', [('x', 'up'), ('y', 'sideways')])
  with pytest.raises(
    InputError, match=r"test\.csv, line 3: the label 'sideways' of the"
  ):
    labelled.load(str(tmp_path))


def test_the_last_text_of_a_class_is_trained_on():
  labels = ['a'] * 6 + ['b'] * 2 + ['c']
  part = labelled.Labelled([f'{i}' for i in range(9)], labels, ['here'] * 9)
  splits = labelled.split({'train': part}, 0.7, 0.7, seed=0)
  assert sorted(splits.train.labels) == ['a', 'b', 'c']
  assert sorted(splits.test.labels) == ['a'] * 4 + ['b']
  assert splits.validation.labels == ['a']
