"""Programs whose calls are made by children, threads and pools, and whose calls these are.

What delivers spans has to hold for each of them, wherever the spans go.
"""

from textwrap import dedent

import pytest

FAMILY = """
import os, sys, warnings
from functools import partial
import aistrale
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)  # what Python 3.12 thinks of forks in general
call = partial(aistrale.run, "Hello", provider="echo")

def wait_for(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""
FAMILIES = {
    "a fork": (
        """
        call(user="parent")
        pid = os.fork()
        call(user="afterwards" if pid else "child")
        if pid:
            wait_for(pid)
        """,
        ["afterwards", "child", "parent"],
    ),
    "a fork of a process that has its books open": (
        """
        call(user="parent")
        assert len(aistrale.telemetry.query()) == 1
        pid = os.fork()
        call(user="afterwards" if pid else "child")
        aistrale.telemetry.query()
        if pid:
            wait_for(pid)
        """,
        ["afterwards", "child", "parent"],
    ),
    "a server that forks its workers": (
        """
        workers = []
        for number in range(4):
            workers.append(os.fork())
            if not workers[-1]:
                for _ in range(3):
                    call(user=f"worker {number}")
                sys.exit()
        for pid in workers:
            wait_for(pid)
        """,
        [f"worker {number}" for number in range(4) for _ in range(3)],
    ),
    "a prefork server": (
        """
        import signal, socket
        call(user="start")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            workers = []
            for _ in range(2):
                workers.append(os.fork())
                while not workers[-1]:
                    connection, _ = listener.accept()
                    with connection:
                        call(user="request")
                        connection.sendall(b"done")
            for _ in range(6):
                with socket.create_connection(listener.getsockname()) as request:
                    assert request.recv(4) == b"done"
            for pid in workers:
                os.kill(pid, signal.SIGTERM)
                wait_for(pid)
        """,
        [*["request"] * 6, "start"],
    ),
    "multiprocessing": (
        """
        import multiprocessing
        call(user="parent")
        for way in ("fork", "forkserver", "spawn"):
            child = multiprocessing.get_context(way).Process(target=call, kwargs={"user": way})
            child.start()
            child.join()
            assert child.exitcode == 0
        """,
        ["fork", "forkserver", "parent", "spawn"],
    ),
    "a process pool": (
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        with ProcessPoolExecutor(2, get_context("fork")) as pool:
            futures = [pool.submit(call, user=f"task {number}") for number in range(4)]
            print([future.result().text for future in futures])
        """,
        [f"task {number}" for number in range(4)],
    ),
    "threads": (
        """
        from threading import Thread
        from concurrent.futures import ThreadPoolExecutor
        threads = [Thread(target=call, kwargs={"user": "thread"}) for _ in range(3)]
        for thread in threads:
            thread.start()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(call, user="pool").result()
        """,  # nobody waits for the threads
        ["pool", "thread", "thread", "thread"],
    ),
}

family_programs = pytest.mark.parametrize(
    ("program", "expected"),
    [(FAMILY + dedent(program), expected) for program, expected in FAMILIES.values()],
    ids=list(FAMILIES),
)
