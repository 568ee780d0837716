"""The end of the interpreter, and forks: nothing hangs."""

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import asyncio, os, threading, time
from tower_backpressure import *
"""


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    "waiting",
    [
        "sender.blocking_send(2)",
        "[stream.receive_nowait(), stream.blocking_receive()]",
        "asyncio.run(sender.send(2))",
        "[stream.receive_nowait(), asyncio.run(stream.receive())]",
        "[paced.send_nowait(1), paced.blocking_send(2)]",
        "[paced.send_nowait(1), asyncio.run(paced.send(2))]",
    ],
)
def test_the_interpreter_ends_while_a_daemon_thread_waits(waiting: str) -> None:
    ended = script(
        f"""
        sender, stream = create_stream(1)
        sender.send_nowait(1)
        paced, other = create_stream(9, "adaptive", rate=AdaptiveRate(initial=20, burst=1))
        class Late:
            # While this goes, there is no interpreter to wake anybody in.
            def __del__(self, sleep=time.sleep):
                sleep(0.1)
        late = Late()
        threading.Thread(target=lambda: {waiting}, daemon=True).start()
        time.sleep(0.02)
        print("end", flush=True)
        """
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("end\n", "", 0)


def test_a_timer_that_wakes_a_task_is_not_cut_short_by_the_end_of_the_interpreter() -> None:
    ended = script(
        """
        woken = threading.Event()
        def call_soon_threadsafe(*_):
            woken.set()
            time.sleep(0.1)
            os.write(1, b"awake")
        async def main():
            asyncio.get_running_loop().call_soon_threadsafe = call_soon_threadsafe
            paced, _ = create_stream(9, "adaptive", rate=AdaptiveRate(initial=100, burst=1))
            await paced.send(1)
            await paced.send(2)
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        woken.wait()
        """
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("awake", "", 0)


def test_a_loop_ends_while_its_tasks_wait() -> None:
    ended = script(
        """
        async def main():
            global stream, tasks
            sender, stream = create_stream(1)
            sender.send_nowait(1)
            tasks = [asyncio.create_task(sender.send(2)), asyncio.create_task(sender.wait_closed())]
            other, empty = create_stream(1)
            tasks.append(asyncio.create_task(empty.receive()))
            await asyncio.sleep(0)
        asyncio.run(main())
        assert all(task.cancelled() for task in tasks)
        """
    )
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_a_loop_ends_although_a_thread_of_its_own_sends_to_a_reader_that_is_forgotten() -> None:
    ended = script(
        """
        def produce(sender):
            try:
                for item in range(9):
                    sender.blocking_send(item)
            except StreamClosed as closed:
                print(closed)
        async def main():
            sender, stream = create_stream(1)
            asyncio.get_running_loop().run_in_executor(None, produce, sender)
            assert await stream.receive() == 0
        asyncio.run(main())
        """
    )
    assert ended.stdout == "not sent: nobody reads the stream any more\n"
    assert (ended.stderr, ended.returncode) == ("", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_stream_belongs_to_the_process_that_made_it() -> None:
    ended = script(
        """
        sender, stream = create_stream(4)
        paced, _ = create_stream(9, "adaptive", rate=AdaptiveRate(initial=200, burst=1))
        for item in range(3):
            paced.blocking_send(item)  # the clock runs by now
        child = os.fork()
        if child == 0:
            for use in (stream.blocking_receive, stream.receive_nowait, lambda: next(stream),
                        lambda: asyncio.run(stream.receive()), lambda: sender.send_nowait(1),
                        lambda: sender.blocking_send(1), lambda: asyncio.run(sender.send(1)), stream.statistics):
                try:
                    use()
                except RuntimeError as error:
                    assert "make one after the fork" in str(error), error
                else:
                    raise AssertionError(use)
            del sender, stream, paced, _
            sender, stream = create_stream(9, "adaptive", rate=AdaptiveRate(initial=200, burst=1))
            async def send():
                for item in range(4):
                    await sender.send(item)
            asyncio.run(send())
            sender.close()
            assert list(stream) == [0, 1, 2, 3]
        else:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            sender.send_nowait("still here")
            assert stream.receive_nowait() == "still here"
        """
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
