"""A Python that stands after the imports of a script, and whose copies run it: what torchrun starts needs no 5 s more.

In:  an interpreter and a script.   Out: a program to be started as that interpreter would be: `PROGRAM -m MODULE ...`.
Guarantee: each start is a process of its own (a fork, made before there is any thread) with the arguments, environment,
folder and files of who started it, which gets its exit code and passes signals on; when that one is killed, so is the
process. The script runs from its first line; its imports find what was loaded. torchrun itself is started the same way.

    with ready_python(sys.executable, "train_hf") as program:
        subprocess.run([program, "-m", "torch.distributed.run", ..., "-m", "curriculum.examples.train_hf", dataset])
"""

from __future__ import annotations

import ast
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAUNCHER = "torch.distributed.run"
PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b" "], [0, 1, 2])
server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
answers = server.makefile()
pid = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextmanager
def ready_python(python: str | Path, script: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """The program, as long as the block lasts.

    Args:
        script: a module of `curriculum.examples`.
        environment: what its imports see; each start has its own.
    """
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket has at most 107 bytes
        program, address = Path(folder, "python"), str(Path(folder, "socket"))
        program.write_text(PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o700)
        mine = {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHON_EXEC": str(program)}
        command = [str(python), __file__, address, str(ROOT / "curriculum" / "examples" / f"{script}.py")]
        with subprocess.Popen(command, env=mine, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            try:
                yield program
            finally:
                server.stdin.close()


def main(address: str, script: str) -> None:
    """Import, and serve until stdin ends."""
    lines = ast.parse(Path(script).read_text("utf-8")).body
    imports: list[ast.stmt] = [line for line in lines if isinstance(line, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), script, "exec"), {})
    __import__(LAUNCHER)
    gc.collect()
    gc.freeze()
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert len(set(threads) - {"jemalloc_bg_thd"}) == 1, f"{threads}: copies would lack one"  # jemalloc's starts again
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        running: dict[socket.socket, int] = {}
        while True:
            readable, _, _ = select.select([listener, sys.stdin, *running], [], [], 0.02 if running else None)
            if listener in readable:
                connection, _ = listener.accept()
                pid = start(connection, [listener, *running])
                if pid == 0:
                    return  # in the copy, which has run
                running[connection] = pid
            for connection in [one for one in readable if one in running]:  # it says nothing more: it is gone
                os.kill(running[connection], signal.SIGKILL)
            for connection, pid in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del running[connection]
                    tell(connection, os.waitstatus_to_exitcode(status))
                    connection.close()
            if sys.stdin in readable:
                for pid in running.values():
                    os.kill(pid, signal.SIGKILL)
                return


def start(connection: socket.socket, others: list[socket.socket]) -> int:
    """Fork; the copy does what the client asks for, and gets 0."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        arguments, folder, environment = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        for one in (connection, *others):
            one.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        become(arguments, folder)
        return 0
    for file in files:
        os.close(file)
    tell(connection, pid)
    return pid


def become(arguments: list[str], folder: str) -> None:
    """`python [-u] -m MODULE ...`, or `python SCRIPT ...`."""
    if arguments[0] == "-u":
        arguments = arguments[1:]
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    if arguments[0] == "-m":
        sys.path[0], sys.argv = folder, arguments[1:]
        sys.modules.pop(arguments[1], None)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(arguments[0]).parent), arguments
        runpy.run_path(arguments[0], run_name="__main__")


def tell(connection: socket.socket, number: int) -> None:
    """A line."""
    with suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % number)


if __name__ == "__main__":
    main(*sys.argv[1:])
