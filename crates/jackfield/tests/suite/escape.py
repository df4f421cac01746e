#!/usr/bin/env python3
"""A plugin that tries to get out, without an SDK. Each function is an attempt; it answers what came of it."""
import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
host = os.getppid()


def system_call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read(path):
    with open(path, "rb") as file:
        return file.read(4096)


def write(path):
    with open(path, "wb") as file:
        file.write(b"x")


def read_memory():
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    system_call("process_vm_readv", host, local, 1, local, 1, 0)


def connect(family, kind, address):
    with socket.socket(family, kind) as made:
        made.connect(address)


def fork_bomb():
    for _ in range(10_000):
        if os.fork() == 0:
            signal.pause()


def fill_disk():
    block = b"x" * (1 << 20)
    with open("filling", "wb") as file:
        for _ in range(4096):
            file.write(block)


def open_files():
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(100_000)])


def share_memory():
    """Of the kind that RLIMIT_DATA does not count."""
    memory = mmap.mmap(-1, 200 << 20)
    for at in range(0, 200 << 20, 4096):
        memory[at] = 1
    signal.pause()


CLONE_NEWUSER = 0x10000000
ATTEMPTS = {
    "host-environment": lambda params: read(f"/proc/{host}/environ"),
    "host-memory": lambda params: read_memory(),
    "host-memory-file": lambda params: read(f"/proc/{host}/mem"),
    "host-maps": lambda params: read(f"/proc/{host}/maps"),
    "host-files": lambda params: os.listdir(f"/proc/{host}/fd"),
    "shadow": lambda params: read("/etc/shadow"),
    "read": lambda params: read(params["path"]),
    "write": lambda params: write(params["path"]),
    "tcp": lambda params: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", params["port"])),
    "udp": lambda params: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", params["port"])),
    "abstract": lambda params: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + params["name"]),
    "ptrace": lambda params: system_call("ptrace", 16, host, None, None),
    # Signals that do nothing to whom they reach.
    "signal": lambda params: os.kill(host, 0),
    "continue": lambda params: os.kill(host, signal.SIGCONT),
    "leave-group": lambda params: os.setsid(),
    "unshare": lambda params: system_call("unshare", CLONE_NEWUSER),
    "mount": lambda params: system_call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "chroot": lambda params: os.chroot("/"),
    "fork-bomb": lambda params: fork_bomb(),
    "fill-disk": lambda params: fill_disk(),
    "open-files": lambda params: open_files(),
    "share-memory": lambda params: share_memory(),
    "long-answer": lambda params: "x" * params["bytes"],
    "variables": lambda params: dict(os.environ),
    "directory": lambda params: os.getcwd(),
}

HELLO = {
    "protocol": "1.0",
    "plugin": {"name": "escape", "version": "1.0.0"},
    "interfaces": ["test:escape/escape@1.0.0"],
}


def attempt(name, params):
    try:
        done = ATTEMPTS[name](params)
    except OSError as error:
        denied = f"{name}: {errno.errorcode.get(error.errno, error.errno)}"
        print(f"denied: {denied}", file=sys.stderr, flush=True)
        return denied
    return done if isinstance(done, (str, int, dict)) else "done"


for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "jackfield/hello":
        result = HELLO
    elif "id" in message:
        result = attempt(message["method"].removeprefix("escape."), message.get("params", {}))
    else:
        continue
    sys.stdout.write(json.dumps({"id": message["id"], "result": result}) + "\n")
    sys.stdout.flush()
