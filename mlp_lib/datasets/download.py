"""Files over the network: resumed where they stopped, checked by hash, and whole under their own name or not there."""

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path


def has_md5(path: Path, md5: str) -> bool:
    """Whether `path` is a file with this MD5."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def download(url: str, target: Path, md5: str, title: str) -> None:
    """Bring `url` to `target`; nothing happens where it is already. May be killed and called again at any point.

    Raises OSError or http.client.HTTPException when the network, the server or the disk fails. (torchvision's own
    downloader neither resumes nor times out.)
    """
    if has_md5(target, md5):
        return
    part = target.with_name(target.name + ".part")
    for _ in range(2):  # if what was resumed turns out wrong, once more from the start
        resumed = part.exists()
        if not (resumed and has_md5(part, md5)):
            _receive(url, part, title)
        if has_md5(part, md5):
            part.replace(target)
            return
        part.unlink(missing_ok=True)
        if not resumed:
            break
    raise OSError(f"{target.name} arrived damaged, its MD5 is wrong")


def _receive(url: str, part: Path, title: str) -> None:
    """Append to `part` what is still to come, or write it anew if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing beyond what we have, and it is wrong: the caller starts afresh
            return
        raise
    with response:
        have = have if response.status == 206 else 0
        announced = response.headers.get("Content-Length")
        total = have + int(announced) if announced else None
        with open(part, "ab" if have else "wb") as file:
            shown = -1
            while block := response.read(1 << 18):
                file.write(block)
                have += len(block)
                if total and shown < 10 * have // total:
                    shown = 10 * have // total
                    print(f"{title}: {have / 1e6:.0f} of {total / 1e6:.0f} MB", flush=True)
    if total and have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes")


def take_from_tar(archive_path: Path, inside: str, names: list[str], folder: Path) -> None:
    """Copy files we know by name, `inside`/name, and no others, from a verified archive into `folder`: no member can
    choose where it lands. What the archive lacks is left out for the caller to find missing."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive_path) as archive:
        for name in names:
            try:
                member = archive.extractfile(f"{inside}/{name}")
            except KeyError:
                continue
            if member is not None:
                part = folder / f"{name}.part"
                with part.open("wb") as file:
                    shutil.copyfileobj(member, file, 1 << 20)
                part.replace(folder / name)
