"""report.py: what a run prints at its end."""

from seqjax.view import report

RESULT = {
  'final': {'step': 20, 'epoch': 5, 'loss': 0.25, 'val_loss': 0.5},
  'best': {'step': 16, 'epoch': 4, 'val_loss': 0.4375},
  'tested_epoch': 4,
  'seconds': 3.0,
  'sequences_per_second': 100.0,
}


def rows(tmp_path, capsys, **more):
  """What is printed, a list of words for each line."""
  report.show_end(tmp_path, RESULT | more)
  return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_end_shows_last_and_best_epoch_and_the_test(tmp_path, capsys):
  printed = rows(tmp_path, capsys, test_loss=0.5625)
  assert ['loss', 'val_loss'] in printed
  assert ['final', 'epoch', '(5)', '0.2500', '0.5000'] in printed
  assert ['best', 'epoch', '(4)', '0.4375'] in printed
  assert ['test,', 'epoch', '4', '0.5625'] in printed


def test_where_nothing_was_tested_there_is_no_row_of_it(tmp_path, capsys):
  words = [word for line in rows(tmp_path, capsys) for word in line]
  assert 'best' in words
  assert 'test,' not in words
