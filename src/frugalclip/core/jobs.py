"""The resumable job: shards in, shards out, and nothing finished is made again.

A job owns a folder. Beside what it makes, the folder has a hidden one with the job's memory:

    .job/plan.json          what all shards agree on; a folder with another plan is refused
    .job/records/NAME.json  a finished shard: key, files with their sizes, the task's notes, a checksum
    .job/scratch/NAME/      where a shard is written; the process that holds this folder has claimed the shard

The key of a shard is a hash of everything that decides its content. A record counts when it has the key and
its files have their sizes. So neither the number of workers nor a restart changes a byte, and several calls,
also on several machines with one file system, share the shards among them.
"""

import contextlib
import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

from pydantic import Field

from frugalclip.core.disk import full_disk_explained
from frugalclip.core.errors import DataError
from frugalclip.core.executors import Crash, Executor
from frugalclip.core.locks import contents, is_held, scratch_folder
from frugalclip.core.records import write_json
from frugalclip.core.stored import StoredRecord, read_object, read_record

FOLDER = ".job"
_MADE_AGAIN = "delete it and call again, which makes what it belongs to anew"
_PAUSE = 0.5  # seconds between checks of shards that another call makes

Content = TypeVar("Content")
Attempted = TypeVar("Attempted")


def content_key(*parts: Any) -> str:
    """32 hex digits over JSON values, equal on every machine."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@final
@dataclass(frozen=True, eq=False)
class Shard(Generic[Content]):
    """One unit of a job, made as a whole or not at all."""

    name: str  # unique within the job
    key: str  # hash of everything that decides the content, see `content_key`
    content: Content  # what the task makes it from


@final
class Record(StoredRecord):
    """What a job remembers of a finished shard."""

    key: str
    files: dict[str, int] = Field(description="path within the job's folder -> bytes")
    notes: dict[str, Any] = Field(description="the task's own, JSON values")
    checksum: str = Field(default="", description="of the others, as `written` computes it")

    def written(self) -> "Record":
        """The record with its checksum."""
        return self.model_copy(update={"checksum": content_key(self.key, self.files, self.notes)})


class ShardTask(ABC, Generic[Content]):
    """Makes one shard at a time. Executors may carry it to other processes."""

    @abstractmethod
    def make(self, shard: Shard[Content], folder: Path) -> dict[str, Any]:
        """Write a shard.

        Args:
            shard: which one.
            folder: empty; files go into it under the paths that they get within the job's folder.

        Returns:
            Notes for the record, as JSON values.
        """


@final
class Job:
    """The shards of one folder.

    Args:
        folder: where they appear.
        plan: what all of them agree on, as JSON values.
        what: name of the shards in messages, such as `scenes`.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, what: str) -> None:
        self.folder, self.plan, self.what = folder, dict(plan), what
        self._memory = folder / FOLDER

    def begin(self) -> None:
        """Make the folder this job's, or check that it is.

        Raises:
            DataError: when the folder is a file, holds anything else, or belongs to a job with another plan.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{self.folder} is a file, expected a folder; give --out another name.")
        path = self._memory / "plan.json"
        if path.is_file():
            self._refuse_other_plan(read_object(path, error=DataError, advice=_MADE_AGAIN))
            return
        if any(entry.name != FOLDER for entry in contents(self.folder)):
            raise DataError(
                f"{self.folder} is not an empty folder and holds no {self.what}; "
                "give --out an empty or new folder."
            )
        write_json(path, self.plan)

    def _refuse_other_plan(self, found: Mapping[str, Any]) -> None:
        changed = next((name for name in self.plan if found.get(name) != self.plan[name]), None)
        if changed is not None:
            raise DataError(
                f"{self.folder} holds {self.what} made with {changed} {found.get(changed)}, and now "
                f"{changed} is {self.plan[changed]}; give --out a new folder, "
                "or delete this one to begin again."
            )

    def recorded(self, name: str) -> Record | None:
        """The record of a shard whose files are there, whatever its key; None where it is not finished."""
        path = self._record_path(name)
        try:
            record = read_record(path, Record, error=DataError, advice=_MADE_AGAIN)
        except FileNotFoundError:
            return None
        if record != record.written():
            raise DataError(f"{path} has changed since it was written (its checksum differs); {_MADE_AGAIN}.")
        return (
            record if all(_size(self.folder / file) == size for file, size in record.files.items()) else None
        )

    def finished(self, shards: Sequence[Shard[Content]]) -> dict[str, Record]:
        """Records of those shards that need not be made."""
        found = {shard.name: (shard, self.recorded(shard.name)) for shard in shards}
        return {name: record for name, (shard, record) in found.items() if record and record.key == shard.key}

    def run(
        self,
        shards: Sequence[Shard[Content]],
        task: ShardTask[Content],
        executor: Executor,
        *,
        progress: Callable[[Shard[Content]], None] = lambda _: None,
    ) -> list[Record]:
        """Make what is missing, and wait for what other calls are making.

        Args:
            shards: all shards of the job.
            task: makes one.
            executor: where they are made.
            progress: called with every shard once it is there.

        Returns:
            The records, in the order of the shards.

        Raises:
            DataError: when a worker process dies.
        """
        records: dict[str, Record] = {}
        while waiting := [shard for shard in shards if shard.name not in records]:
            found = self.finished(waiting)
            free = [s for s in waiting if s.name not in found and not is_held(self._scratch(s.name))]
            attempts = executor.run(_Attempt(self, task), free) if free else ()
            for shard, record in self._with_room(attempts):
                if isinstance(record, Crash):
                    raise DataError(
                        "a worker process died, usually for lack of memory; call again with --workers 1, "
                        "which goes on where this stopped."
                    )
                if record is not None:
                    records[shard.name] = record
                    progress(shard)
            for shard in waiting:
                if shard.name in found:
                    records[shard.name] = found[shard.name]
                    progress(shard)
            if not any(shard.name in records for shard in waiting):
                time.sleep(_PAUSE)
        self._delete_leftovers()
        return [records[shard.name] for shard in shards]

    def _with_room(self, attempts: Iterable[Attempted]) -> Iterator[Attempted]:
        """The same; a full disk says that finished shards stay."""
        kept = f"finished {self.what} are kept"
        with full_disk_explained(self.folder, kept=kept, go_on="run the same command again"):
            yield from attempts

    def attempt(self, shard: Shard[Content], task: ShardTask[Content]) -> Record | None:
        """Make one shard, unless it is there; None while another process is at it."""
        with scratch_folder(self._scratch(shard.name)) as is_ours:
            if not is_ours:
                return None
            return self.finished([shard]).get(shard.name) or self._make(shard, task)

    def _make(self, shard: Shard[Content], task: ShardTask[Content]) -> Record:
        scratch = self._scratch(shard.name)
        own = scratch / "files"
        own.mkdir()
        notes = task.make(shard, own)
        self._record_path(shard.name).unlink(missing_ok=True)  # of the files that are replaced now
        files = {
            path.relative_to(own).as_posix(): path.stat().st_size
            for path in sorted(own.rglob("*"))
            if path.is_file()
        }
        for name in files:
            _publish(own / name, self.folder / name)
        record = Record(key=shard.key, files=files, notes=notes).written()
        write_json(scratch / "record.json", record.model_dump())
        _publish(scratch / "record.json", self._record_path(shard.name))
        return record

    def _delete_leftovers(self) -> None:
        """Delete what killed processes left in the hidden folder."""
        scratch = self._memory / "scratch"
        for folder in scratch.iterdir() if scratch.is_dir() else ():
            with scratch_folder(folder):
                pass
        with contextlib.suppress(OSError):  # not empty while another call works
            scratch.rmdir()
        for file in self._memory.glob(".plan.json.*"):
            file.unlink(missing_ok=True)

    def _record_path(self, name: str) -> Path:
        return self._memory / "records" / f"{name}.json"

    def _scratch(self, name: str) -> Path:
        return self._memory / "scratch" / name


@final
@dataclass(frozen=True)
class _Attempt(Generic[Content]):
    """`Job.attempt` with its task, in a form that executors carry to other processes."""

    job: Job
    task: ShardTask[Content]

    def __call__(self, shard: Shard[Content]) -> Record | None:
        return self.job.attempt(shard, self.task)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _publish(source: Path, target: Path) -> None:
    """Move a finished file to its place; what is there survives a power cut."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
