"""Runs the commands of a workflow without importing torch in each of them.

`python warm_python.py SOCKET` serves: it imports what the commands need once, then runs every
command that it is sent in a fork of itself. `WARM_SOCKET=SOCKET warm_python.py SCRIPT ARGUMENTS` is
the other end, put in the place of `python`: it sends the command line, its folder and its standard
streams, and ends with the command's status.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import socket
import sys
import traceback
from pathlib import Path


def serve(path: str) -> None:
    """Answer one connection after the other, until terminated."""
    for name in ("h5py", "pandas", "torchvision"):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            connection, _ = server.accept()
            message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
            folder, arguments = json.loads(message)
            process = os.fork()
            if process == 0:
                for target, stream in enumerate(streams):
                    os.dup2(stream, target)
                os._exit(run(folder, arguments))
            for stream in streams:
                os.close(stream)
            _, status = os.waitpid(process, 0)
            connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
            connection.close()


def run(folder: str, arguments: list[str]) -> int:
    """One command, as `python SCRIPT ARGUMENTS` in ``folder``; its exit status."""
    os.chdir(folder)
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ending:
        return int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def send(path: str) -> int:
    """This process's command line to the server; the command's exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        message = json.dumps([str(Path.cwd()), sys.argv[1:]]).encode()
        socket.send_fds(connection, [message], [0, 1, 2])
        return connection.recv(1)[0]


if __name__ == "__main__":
    if "WARM_SOCKET" in os.environ:
        sys.exit(send(os.environ["WARM_SOCKET"]))
    serve(sys.argv[1])
