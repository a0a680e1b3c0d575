"""Answers and facts of stories against one who reads them sentence by sentence."""

import collections
import re

import pytest

from seqjax.data.texts import stories


def _read(sentences, *, whole):
  """Where things and persons are after the sentences; where things were."""
  place, holder, history = {}, {}, collections.defaultdict(list)

  def put(thing, where):
    if history[thing][-1:] != [where]:
      history[thing].append(where)

  for sentence in sentences:
    person, *_, what = sentence.split()
    verb = sentence.removeprefix(f'{person} ').removesuffix(f' the {what}')
    if verb in ('went to', 'moved to', 'walked to', 'ran back to'):
      place[person] = what
      for thing, who in holder.items():
        if who == person:
          put(thing, what)
    elif verb in ('picked up', 'took', 'grabbed'):
      if whole:
        assert what not in holder
        assert not history[what] or history[what][-1] == place[person]
      holder[what] = person
      if person in place:
        put(what, place[person])
    else:
      assert verb in ('put down', 'dropped', 'left')
      assert holder.pop(what) == person
  return place, history


def _answer(story, chosen=None):
  """By all sentences, or by those alone that are chosen."""
  words = story.question.split()
  chosen = range(len(story.sentences)) if chosen is None else chosen
  sentences = [story.sentences[i] for i in chosen]
  place, history = _read(sentences, whole=len(sentences) == len(story.sentences))
  if 'before' in words:
    thing, there = words[3], words[-1]
    return history[thing][history[thing].index(there) - 1]
  return history[words[-1]][-1] if 'the' in words else place[words[-1]]


@pytest.mark.parametrize('task', stories.TASKS)
def test_the_answer_is_that_of_a_reader_and_follows_from_the_facts(task):
  found = stories.stories(0, 400, task)
  for story in found:
    assert _answer(story) == story.answer
    assert story.answer in stories.PLACES
    assert _answer(story, story.facts) == story.answer
    assert {1: 1, 2: 2, 3: 3}[task] <= len(story.facts) <= {1: 1, 2: 2, 3: 4}[task]
  answers = collections.Counter(story.answer for story in found)
  assert max(answers.values()) < 0.3 * len(found)
  assert stories.stories(0, 400, task) == found != stories.stories(1, 400, task)
  texts = ' '.join(story.text for story in found)
  words = stories.words(task)
  assert sorted(words) == sorted({*re.findall('[a-z]+', texts)})


def test_a_story_is_written_as_one_would():
  story = stories.Story(['anna went to the hall'], 'where is anna', 'hall', (0,))
  assert story.text == 'anna went to the hall. where is anna?'
  with pytest.raises(ValueError, match='task must be one of'):
    stories.stories(0, 1, 4)
  with pytest.raises(ValueError, match='task must be one of'):
    stories.words(0)
