"""A device with blocks that can't be read, for one file: the C library's reads of it fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["MISSING", "environment"]

MISSING = (
    None
    if sys.platform == "linux" and shutil.which("cc")
    else "needs Linux and a C compiler, which Rust needs, too"
)
"""Why this can't be had here, or None."""

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* How many bytes may be read there: up to the bad part, as Linux gives them; -1: none. */
static ssize_t allowed(int fd, size_t count, off64_t at)
{
    char name[64], path[PATH_MAX];
    const char *bad = getenv("BAD_PATH"), *part = getenv("BAD_PART");
    long long start, end;
    ssize_t length;

    if (bad == NULL || part == NULL || sscanf(part, "%lld-%lld", &start, &end) != 2)
        return count;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    length = readlink(name, path, sizeof path - 1);
    if (length < 0)
        return count;
    path[length] = 0;
    if (strcmp(path, bad) != 0 || at >= end || at + (off64_t)count <= start)
        return count;
    return at < start ? start - at : -1;
}

#define READ_AT(name)                                                        \
    ssize_t name(int fd, void *buffer, size_t count, off64_t at)             \
    {                                                                        \
        ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, #name); \
        ssize_t length = allowed(fd, count, at);                             \
        if (length < 0) { errno = EIO; return -1; }                          \
        return real(fd, buffer, length, at);                                 \
    }
READ_AT(pread)
READ_AT(pread64)

ssize_t read(int fd, void *buffer, size_t count)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t length = at < 0 ? (ssize_t)count : allowed(fd, count, at);
    if (length < 0) { errno = EIO; return -1; }
    return real(fd, buffer, length);
}
"""


def environment(folder: Path, file: Path, start: int, end: int) -> dict[str, str]:
    """Return the environment for a process that can't read these bytes of *file*.

    What it needs is made in *folder*.
    """
    source, shim = folder / "badblocks.c", folder / "badblocks.so"
    if not shim.exists():
        source.write_text(_SHIM)
        command = ["cc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "BAD_PATH": str(file.resolve()),
        "BAD_PART": f"{start}-{end}",
    }
