"""Archives are read whole and exact, or refused with the name of what is wrong."""

import gzip
import io
import os
import pathlib
import random
import stat
import tarfile
import zipfile

import pytest

from seqjax.data import archives
from seqjax.types import InputError

FILES = {
  'a/one.txt': b'first',
  'a/b/two.txt': b'',
  f'a/{"long" * 40}.txt': b'a name for an extended header',
  'a/b/three.txt': bytes(range(256)) * 9,
  'c.txt': 'größer'.encode(),
}


def everything(name: str) -> bool:
  del name
  return True


def read(path, select=everything, **limits) -> dict[str, bytes]:
  return dict(archives.read_files(path, select, **limits))


def member(name, content=b'', **fields) -> tuple[tarfile.TarInfo, bytes]:
  info = tarfile.TarInfo(name)
  info.size = len(content)
  for key, value in fields.items():
    setattr(info, key, value)
  return info, content


def tar_bytes(members, tar_format=tarfile.PAX_FORMAT) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w', format=tar_format) as tar:
    for info, content in members:
      tar.addfile(info, io.BytesIO(content))
  return file.getvalue()


def make(kind, path: pathlib.Path, files=FILES) -> pathlib.Path:
  """Writes the files as one kind of archive, or as a folder, and returns its path."""
  if kind == 'folder':
    for name, content in files.items():
      path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
      path.joinpath(name).write_bytes(content)
  elif kind.startswith('zip'):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.mkdir('a')
      for name, content in files.items():
        archive.writestr(name, content)
  else:
    tar_format = tarfile.GNU_FORMAT if 'gnu' in kind else tarfile.PAX_FORMAT
    folders = [member('a', type=tarfile.DIRTYPE), member('a/b/', type=tarfile.DIRTYPE)]
    content = tar_bytes(folders + [member(*item) for item in files.items()], tar_format)
    path.write_bytes(gzip.compress(content) if 'gz' in kind else content)
  return path


@pytest.mark.parametrize('kind', ['tar', 'tar.gz', 'gnu.tar', 'gnu.tar.gz', 'zip'])
def test_every_kind_gives_the_same_files_whatever_its_name(kind, tmp_path):
  path = make(kind, tmp_path / 'data.bin')
  assert read(path) == FILES
  assert list(read(path)) == list(FILES)  # the archive's own order


def test_a_folder_reads_like_an_archive_of_it_in_the_order_of_names(tmp_path):
  path = make('folder', tmp_path / 'top')
  expected = {f'top/{name}': content for name, content in FILES.items()}
  assert read(path) == expected
  make('folder', path, {n: b'' for n in ('zz.txt', 'd/x.txt', 'a/0.txt', 'B.txt')})
  names = [p.relative_to(tmp_path).as_posix() for p in path.rglob('*') if p.is_file()]
  assert sorted(read(path)) == sorted(names)
  long = f'top/a/{"long" * 40}.txt'
  assert list(read(path)) == [
    *('top/B.txt', 'top/c.txt', 'top/zz.txt'),
    *('top/a/0.txt', long, 'top/a/one.txt', 'top/a/b/three.txt', 'top/a/b/two.txt'),
    'top/d/x.txt',
  ]


@pytest.mark.parametrize('kind', ['tar.gz', 'zip', 'folder'])
def test_only_wanted_files_are_yielded(kind, tmp_path):
  path = make(kind, tmp_path / 'data')
  found = read(path, lambda name: name.endswith('three.txt'))
  assert list(found.values()) == [FILES['a/b/three.txt']]


def test_a_leading_dot_is_no_part_of_a_name(tmp_path):
  path = tmp_path / 'dot.tar'
  path.write_bytes(tar_bytes([member('./a/./b.txt', b'x')]))
  assert read(path) == {'a/b.txt': b'x'}


@pytest.mark.parametrize(
  ('bad', 'reason'),
  [
    (member('/etc/passwd'), 'relative path'),
    (member('a/../../up.txt'), 'relative path'),
    (member('..'), 'relative path'),
    (member('a\\..\\up.txt'), 'relative path'),
    (member('soft', type=tarfile.SYMTYPE, linkname='/etc/passwd'), 'is a link'),
    (member('hard', type=tarfile.LNKTYPE, linkname='a.txt'), 'is a link'),
    (member('null', type=tarfile.CHRTYPE), 'neither a plain file nor a folder'),
    (member('disk', type=tarfile.BLKTYPE), 'neither a plain file nor a folder'),
    (member('pipe', type=tarfile.FIFOTYPE), 'neither a plain file nor a folder'),
    (member('odd', type=b'Z'), 'neither a plain file nor a folder'),
    (member('sparse', pax_headers={'GNU.sparse.map': '0,0', 'GNU.sparse.size': '9'}),
     'neither a plain file nor a folder'),
    (member('a.txt', b'again'), 'occurs twice'),
    (member('./a.txt', b'again'), 'occurs twice'),
    (member('big.txt', bytes(2001)), '2,001 bytes, more than 2,000'),
  ],
)  # fmt: skip
def test_a_tar_member_that_must_not_be_is_refused_by_name(bad, reason, tmp_path):
  path = tmp_path / 'bad.tar.gz'
  path.write_bytes(gzip.compress(tar_bytes([member('a.txt', b'good'), bad])))
  with pytest.raises(InputError, match=reason) as caught:
    read(path, max_file=2000)
  assert str(path) in str(caught.value)
  assert repr(bad[0].name.removeprefix('./')) in str(caught.value)


def test_members_that_nobody_wants_are_looked_at_all_the_same(tmp_path):
  path = tmp_path / 'bad.tar'
  path.write_bytes(tar_bytes([member('../README')]))
  with pytest.raises(InputError, match='README'):
    read(path, lambda name: False)


def zip_entry(name, mode=stat.S_IFREG | 0o644, content=b'x'):
  info = zipfile.ZipInfo(name)
  info.external_attr = mode << 16
  return info, content


@pytest.mark.parametrize(
  ('bad', 'reason'),
  [
    (zip_entry('/etc/passwd'), 'relative path'),
    (zip_entry('a/../../up.txt'), 'relative path'),
    (zip_entry('soft', stat.S_IFLNK | 0o777), 'is a link'),
    (zip_entry('pipe', stat.S_IFIFO | 0o600), 'neither a plain file nor a folder'),
    (zip_entry('big.txt', content=bytes(2001)), '2,001 bytes, more than 2,000'),
  ],
)
def test_a_zip_member_that_must_not_be_is_refused_by_name(bad, reason, tmp_path):
  path = tmp_path / 'bad.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.txt', 'good')
    archive.writestr(*bad)
  with pytest.raises(InputError, match=reason) as caught:
    read(path, max_file=2000)
  assert repr(bad[0].filename) in str(caught.value)


@pytest.mark.filterwarnings('ignore:Duplicate name:UserWarning:zipfile')  # meant so
def test_a_zip_with_the_same_name_twice_is_refused(tmp_path):
  path = tmp_path / 'bad.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.txt', 'one')
    archive.writestr('a.txt', 'two')
  with pytest.raises(InputError, match=r"'a\.txt' occurs twice"):
    read(path)


def test_an_encrypted_zip_member_is_refused(tmp_path):
  path = make('zip', tmp_path / 'x.zip', {'a.txt': b'secret'})
  content = bytearray(path.read_bytes())
  content[content.rindex(b'PK\x01\x02') + 8] |= 1  # the flag, in the central directory
  path.write_bytes(content)
  with pytest.raises(InputError, match=r"'a\.txt' is encrypted"):
    read(path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
  path = make('zip', tmp_path / 'x.zip', {'a.txt': bytes(100_000)})
  content = bytearray(path.read_bytes())
  where = content.rindex(b'PK\x01\x02') + 24  # uncompressed size
  content[where : where + 4] = (100).to_bytes(4, 'little')
  path.write_bytes(content)
  with pytest.raises(InputError, match=r'x\.zip'):
    read(path, max_file=1000)


@pytest.mark.parametrize('what', ['link to a file', 'link to a folder', 'pipe'])
def test_a_folder_with_other_than_files_is_refused_by_name(what, tmp_path):
  path = make('folder', tmp_path / 'top')
  odd = path / 'a' / 'odd'
  if what == 'pipe':
    os.mkfifo(odd)
  else:
    odd.symlink_to(path / ('c.txt' if what == 'link to a file' else 'a'))
  for function in (read, lambda p: archives.identity(p, everything)):
    with pytest.raises(InputError, match='top/a/odd'):
      function(path)


def test_the_folder_itself_may_be_a_link(tmp_path):
  make('folder', tmp_path / 'disk')
  (tmp_path / 'top').symlink_to(tmp_path / 'disk')
  assert set(read(tmp_path / 'top')) == {f'top/{name}' for name in FILES}


@pytest.mark.parametrize('kind', ['tar', 'tar.gz', 'zip', 'folder'])
def test_the_sum_of_wanted_files_is_bounded(kind, tmp_path):
  path = make(kind, tmp_path / 'data', {f'{i}.txt': bytes(500) for i in range(6)})
  assert len(read(path, max_total=3000)) == 6
  with pytest.raises(InputError, match=r"5\.txt' brings the total above 2,999 bytes"):
    read(path, max_total=2999)


def test_the_number_of_files_is_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_MAX_FILES', 4)
  with pytest.raises(InputError, match='more than 4 files'):
    read(make('tar', tmp_path / 'data'))


def test_a_bomb_among_the_unwanted_files_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_MAX_UNPACKED', 2**20)
  path = tmp_path / 'bomb.tar.gz'
  content = tar_bytes([member(f'{i}', bytes(2**18)) for i in range(5)])
  path.write_bytes(gzip.compress(content))
  with pytest.raises(InputError, match='unpacks to more than 1,048,576 bytes'):
    read(path, lambda name: False)


def test_a_bomb_in_an_extended_header_is_refused(tmp_path, monkeypatch):
  """tarfile holds such a header in memory before it shows the member."""
  monkeypatch.setattr(archives, '_MAX_GAP', 2**18)
  path = tmp_path / 'bomb.tar.gz'
  content = tar_bytes(
    [member('a.txt', b'x'), member('b.txt', pax_headers={'comment': 'x' * 2**19})]
  )
  path.write_bytes(gzip.compress(content))
  with pytest.raises(InputError, match='262,144 bytes follow on the header at byte 0 '):
    read(path)


def test_the_bound_on_a_header_is_not_one_on_the_archive(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_MAX_GAP', 2**18)
  files = {f'{i}.txt': bytes(2**16) for i in range(9)}
  assert len(read(make('tar', tmp_path / 'data', files), max_file=2**16)) == 9


def test_the_checksum_behind_the_end_mark_is_verified(tmp_path):
  """Behind more filling than is read ahead."""
  content = tar_bytes([member('a.txt', b'content')]) + bytes(2**18)
  packed = bytearray(gzip.compress(content))
  path = tmp_path / 'data.tar.gz'
  path.write_bytes(packed)
  assert read(path) == {'a.txt': b'content'}
  packed[-6] ^= 1
  path.write_bytes(packed)
  with pytest.raises(InputError, match='CRC check failed'):
    read(path)


def test_no_cut_is_taken_for_the_end(tmp_path):
  """Every length of a small archive, cut before its end mark."""
  content = tar_bytes([member(*item) for item in FILES.items()])
  end = len(content.rstrip(b'\0')) + 512  # the end mark begins before this
  path = tmp_path / 'cut.tar'
  for length in range(0, end - 512, 64):
    path.write_bytes(content[:length])
    with pytest.raises(InputError, match=r'cut\.tar'):
      read(path)
  packed = gzip.compress(content)
  for length in range(0, len(packed), 7):
    path.write_bytes(packed[:length])
    with pytest.raises(InputError, match=r'cut\.tar'):
      read(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
  content = bytearray(tar_bytes([member('a', b'1'), member('b', b'2')]))
  content[1024] ^= 1  # the name of the second member: its checksum no longer fits
  path = tmp_path / 'damaged.tar'
  path.write_bytes(content)
  with pytest.raises(InputError, match='no end mark at byte 1,024'):
    read(path)


@pytest.mark.parametrize('kind', ['tar.gz', 'gnu.tar.gz', 'zip'])
def test_damage_gives_the_same_files_or_an_error_of_one_line(kind, tmp_path):
  """A changed byte may hit what does not matter (a date), but never content."""
  path = make(kind, tmp_path / 'data')
  whole, rng = path.read_bytes(), random.Random(7)
  refused = 0
  for _ in range(300):
    content = bytearray(whole)
    where = rng.randrange(len(content))
    content[where] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    try:
      found, error = read(path), ''
    except InputError as e:
      found, error = {}, str(e)
    if error:
      refused += 1
      assert error.startswith(str(path))
      assert '\n' not in error
    else:  # a zip's names have no checksum
      assert list(found.values()) == list(FILES.values())
  assert refused > 100


@pytest.mark.parametrize('content', [b'', b'<html>no data here</html>', b'PK', b'\x1f'])
def test_what_is_no_archive_is_refused(content, tmp_path):
  path = tmp_path / 'data.tar.gz'
  path.write_bytes(content)
  with pytest.raises(InputError, match=r'data\.tar\.gz'):
    read(path)
  with pytest.raises(InputError, match=r'missing\.tar'):
    read(tmp_path / 'missing.tar')


def test_the_identity_of_an_archive_is_that_of_its_bytes(tmp_path):
  one, two = make('tar.gz', tmp_path / '1'), make('tar', tmp_path / '2')
  copy = tmp_path / '3'
  copy.write_bytes(one.read_bytes())
  identities = [archives.identity(path, everything) for path in (one, two, copy)]
  assert identities[0] == identities[2] != identities[1]


def test_the_identity_of_a_folder_shows_every_change(tmp_path):
  path = make('folder', tmp_path / 'top')
  file = path / 'a' / 'one.txt'

  def identity():
    return archives.identity(path, lambda name: name.endswith('.txt'))

  seen = [identity()]
  assert identity() == seen[0]
  (path / 'unwanted.log').write_text('x')
  assert identity() == seen[0]
  before = file.stat()
  file.write_bytes(b'f1rst')  # same length
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # and same date
  seen.append(identity())
  file.rename(path / 'a' / 'moved.txt')
  seen.append(identity())
  (path / 'a').rename(path / 'z')  # which is no change of the files in it
  seen.append(identity())
  (path / 'c.txt').unlink()
  seen.append(identity())
  assert len(set(seen)) == len(seen)
