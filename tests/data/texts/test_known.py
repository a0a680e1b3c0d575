"""Layouts of known collections, and what is said where a file is not so."""

import functools
import hashlib
import http.server
import logging
import threading

import pytest
from tensorflow_datasets.core.download import checksums

from seqjax.data.texts import known, shakespeare, shakespeare_builder, synthetic
from seqjax.types import InputError

_WORD = '{}\t{}\tx\t{}\tX\t_\t0\troot\t_\t_'


def test_conllu_has_words_and_universal_tags(tmp_path):
  path = tmp_path / 'a.conllu'
  lines = [
    '# text = a',
    _WORD.format(1, 'I', 'PRON'),
    _WORD.format('2-3', "don't", '_'),
  ]
  lines += [_WORD.format(2, 'do', 'AUX'), _WORD.format(3, "n't", 'PART'), '', '']
  lines += [_WORD.format(1, 'Go', 'VERB'), _WORD.format('1.1', 'gone', 'VERB')]
  path.write_text('\n'.join(lines) + '\n')
  found = known.read_conllu(path)
  assert found.words == [['I', 'do', "n't"], ['Go']]
  assert found.tags == [['PRON', 'AUX', 'PART'], ['VERB']]
  path.write_text('\n'.join([*lines, '1\tx']))
  with pytest.raises(InputError, match=r'a\.conllu, line 10: expected ten columns'):
    known.read_conllu(path)
  path.write_text('# nothing\n')
  with pytest.raises(InputError, match='holds no sentence'):
    known.read_conllu(path)


def _commands(folder, slots='O B-x'):
  for part in ('train', 'dev', 'test'):
    (folder / 'snips' / part).mkdir(parents=True)
    (folder / 'snips' / part / 'seq.in').write_text('play it \nstop\n')
    (folder / 'snips' / part / 'seq.out').write_text(f'{slots} \nO\n')
    (folder / 'snips' / part / 'label').write_text('Play\nStop\n')


def test_snips_has_a_slot_for_each_word(tmp_path):
  _commands(tmp_path)
  found = known.snips(str(tmp_path))
  assert found['validation'] == (
    [['play', 'it'], ['stop']], [['O', 'B-x'], ['O']], ['Play', 'Stop'],
  )  # fmt: skip
  assert known.snips(str(tmp_path / 'snips')) == found
  (tmp_path / 'snips' / 'dev' / 'seq.out').write_text('O\nO\n')
  with pytest.raises(
    InputError, match=r'seq\.in, line 1 has 2 words, seq\.out 1 slots'
  ):
    known.snips(str(tmp_path))
  (tmp_path / 'snips' / 'dev' / 'seq.out').write_text('O O\n')
  with pytest.raises(InputError, match='as many lines, got 2, 1 and 2'):
    known.snips(str(tmp_path))


def test_scores_of_pairs_are_numbers_from_1_to_5(tmp_path):
  header = 'pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n'
  for name in ('train', 'trial', 'test_annotated'):
    path = tmp_path / f'SICK_{name}.txt'
    path.write_text(f'{header}1\ta b\tc\t4.5\tNEUTRAL\n')
  found = known.sick(str(tmp_path))
  assert found['test'] == ([('a b', 'c')], [4.5])
  path.write_text(f'{header}1\ta b\tc\t4.5\tNEUTRAL\n2\ta\tb\tmuch\tNEUTRAL\n')
  with pytest.raises(InputError, match=r"line 3: relatedness_score .* got 'much'"):
    known.sick(str(tmp_path))


def test_folders_that_are_not_there_are_named(tmp_path):
  for load in (known.sick, known.snips, known.ud_partut):
    with pytest.raises(InputError, match=r'`data_dir` must name the folder'):
      load('')
    with pytest.raises(InputError, match=r'`data_dir=.*`: expected '):
      load(str(tmp_path))
  (tmp_path / 'names').mkdir()
  with pytest.raises(InputError, match='holds no name'):
    known.names(str(tmp_path), 0.1, 0.1)


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_names_are_one_a_line(tmp_path, caplog, end):
  folder = tmp_path / 'names'
  folder.mkdir()
  lines = {'French': ['Abel', 'Béringer', '', 'Côté'], 'Czech': ['Abl', 'Bartoň']}
  for language, found in lines.items():
    (folder / f'{language}.txt').write_bytes(end.join(found).encode())
  (folder / '._French.txt').write_bytes(b'\0\5\x16\7')
  with caplog.at_level(logging.INFO, 'seqjax'):
    splits = known.names(str(tmp_path), 0.4, 0.4)
  texts = [text for part in splits for text in part.texts]
  assert sorted(texts) == ['Abel', 'Abl', 'Bartoň', 'Béringer', 'Côté']
  assert f"{folder}: skipped 1 files that systems leave, '._French.txt' first" in (
    caplog.messages
  )


def test_generated_commands_are_well_formed_and_told_by_the_seed():
  one, again = synthetic.commands(3, 60), synthetic.commands(3, 60)
  assert one == again != synthetic.commands(4, 60)
  assert [len(part.words) for part in one.values()] == [42, 9, 9]
  for words, tags in zip(one['train'].words, one['train'].tags, strict=True):
    assert len(words) == len(tags)
    for before, tag in zip(['O', *tags], tags, strict=False):
      assert not tag.startswith('I-') or before[2:] == tag[2:]


@pytest.fixture
def published(tmp_path, monkeypatch):
  """Serves a text as the published file: (text, what was asked for)."""
  text = 'FIRST:\nTo be é, or not.\n' * 40
  (tmp_path / 'served').mkdir()
  (tmp_path / 'served' / 'input.txt').write_text(text, encoding='utf-8')
  asked = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
      asked.append(self.command)

  handler = functools.partial(Handler, directory=str(tmp_path / 'served'))
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
  url = f'http://127.0.0.1:{server.server_port}/input.txt'
  content = text.encode()
  info = checksums.UrlInfo(
    size=len(content),
    checksum=hashlib.sha256(content).hexdigest(),
    filename='input.txt',
  )
  monkeypatch.setattr(shakespeare, 'URL', url)
  monkeypatch.setattr(shakespeare, '_SIZE', len(content))
  builder = shakespeare_builder.TinyShakespeare
  monkeypatch.setattr(builder, 'url_infos', {url: info})
  yield text, asked
  server.shutdown()
  server.server_close()


def test_plays_come_from_the_folder_or_once_from_the_network(
  tmp_path, published, monkeypatch
):
  text, asked = published
  (tmp_path / shakespeare.FILE).write_text('of mine', encoding='utf-8')
  cache_dir = str(tmp_path / 'cache')
  assert shakespeare.load(str(tmp_path), cache_dir) == 'of mine'
  assert not asked
  assert shakespeare.load(str(tmp_path / 'none'), cache_dir) == text
  assert asked == ['HEAD', 'GET']
  assert shakespeare.load('', cache_dir) == text
  assert asked == ['HEAD', 'GET']
  monkeypatch.setattr(shakespeare, 'URL', 'http://127.0.0.1:9/input.txt')
  with pytest.raises(InputError, match=r'`data_dir` is not given, and http.*:9/'):
    shakespeare.load('', cache_dir)


def test_another_file_than_the_published_one_is_refused(tmp_path, published):
  text, _ = published
  served = tmp_path / 'served' / 'input.txt'
  served.write_text(text.replace('be', 'me'), encoding='utf-8')
  with pytest.raises(InputError, match='is not the published archive'):
    shakespeare.load('', str(tmp_path / 'cache'))
