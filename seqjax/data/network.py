"""Whether a published file can be had, answered within seconds."""

from __future__ import annotations

import email.message
import http.client
import queue
import threading
import urllib.request

from seqjax.types import InputError

_ANSWER_SECONDS = 8.0  # a clear error within 10 s, and imports take some of them


def check_reachable(url: str, *, size: int, why: str) -> email.message.Message:
  """Asks for the headers of a URL; tensorflow-datasets would try ten times, and wait.

  What has not come after 8 s is no answer, of a name server either.

  Args:
    url: Of the file.
    size: Bytes that it must have.
    why: Why the network is asked, for the message.

  Returns:
    The headers of the answer.

  Raises:
    InputError: The file cannot be had there.
  """
  answers: queue.SimpleQueue[tuple[str, email.message.Message]] = queue.SimpleQueue()
  # A daemon: Python has no timeout for a name server, and must not wait for it at exit.
  arguments = (url, size, answers)
  threading.Thread(target=_ask, args=arguments, daemon=True).start()
  try:
    reason, headers = answers.get(timeout=_ANSWER_SECONDS)
  except queue.Empty:
    reason, headers = f'no answer within {_ANSWER_SECONDS:g} s', email.message.Message()
  if reason:
    raise InputError(
      f'{why}, and {url} cannot be had ({reason}): get that file and give its '
      'folder with `data_dir`'
    )
  return headers


def _ask(
  url: str,
  size: int,
  answers: queue.SimpleQueue[tuple[str, email.message.Message]],
) -> None:
  """Puts the reason why a URL does not lead to the file, '' when it does; headers."""
  headers = email.message.Message()
  try:
    request = urllib.request.Request(url, method='HEAD')
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS / 2) as response:
      headers = response.headers
  except (OSError, http.client.HTTPException, ValueError) as e:
    reason = ' '.join(str(getattr(e, 'reason', e) or type(e).__name__).split())
    answers.put((reason, headers))
    return
  length = headers.get('Content-Length')
  wrong = length is not None and length != str(size)  # of a hotel's network, say
  answers.put((f'it has {length} bytes instead of {size}' if wrong else '', headers))
