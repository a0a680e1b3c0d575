"""Each member of a zip is looked at before the first is read."""

import stat
import zipfile

import pytest

from seqjax.files import zips
from seqjax.types import InputError


def _zip(path, *members):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('good', b'good' * 100)
    for name, mode, content in members:
      info = zipfile.ZipInfo(name)
      info.external_attr = mode << 16
      info.compress_type = zipfile.ZIP_DEFLATED
      archive.writestr(info, content)
  return path


@pytest.mark.parametrize(
  ('name', 'mode', 'reason'),
  [
    ('soft', stat.S_IFLNK | 0o777, 'is a link'),
    ('pipe', stat.S_IFIFO | 0o600, 'is neither a plain file nor a folder'),
    ('', 0, 'leads out of the archive'),
    ('a/../../up', 0, 'leads out of the archive'),
    ('\\\\server\\share', 0, 'leads out of the archive'),
    ('C:up', 0, 'leads out of the archive'),
  ],
)
def test_one_bad_member_refuses_all(tmp_path, name, mode, reason):
  path = _zip(tmp_path / 'a.zip', (name, mode, b'x'))
  with pytest.raises(InputError, match=reason) as caught, zips.opened(path):
    pass
  assert str(caught.value).startswith(f'{path}: member {name!r} ')


def test_growth_is_bounded_where_that_is_asked_for(tmp_path):
  path = _zip(tmp_path / 'a.zip', ('zeros', 0, bytes(2 << 20)), ('small', 0, b'0' * 9))
  with zips.opened(path) as archive:
    assert zips.read(archive, 'zeros', 2 << 20) == bytes(2 << 20)
    with pytest.raises(InputError, match="'zeros' has 2097152 bytes, more than the 9"):
      zips.read(archive, 'zeros', 9)
    with zips.unpacked(archive, 'good', 400) as file:
      assert file.read() == b'good' * 100
  with (
    pytest.raises(InputError, match="'zeros' would grow from"),
    zips.opened(path, max_expansion=zips.MAX_EXPANSION),
  ):
    pass


def test_a_list_that_lost_an_entry_is_damage(tmp_path):
  path = _zip(tmp_path / 'a.zip', ('last', 0, b'x'))
  content = bytearray(path.read_bytes())
  content[content.rindex(b'PK\x05\x06') + 10] = 3  # entries, of which there are 2
  path.write_bytes(content)
  with pytest.raises(InputError, match='2 entries instead of 3'), zips.opened(path):
    pass
