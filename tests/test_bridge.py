"""From threads to the event loop: every answer arrives."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from otpseal.committer import Answer
from otpseal.http.bridge import Bridge


def test_two_threads_that_answer_at_once_are_both_heard() -> None:
    """Answers of the committer's two threads arrive, however the threads interleave.

    Forced: a thread that has put its answer down pauses until the other one has, too.
    """
    both = threading.Barrier(2)

    def pause(_frame: FrameType, event: str, function: Any) -> None:  # noqa: ANN401
        if event == "c_return" and function.__name__ == "append":
            try:
                both.wait(0.5)
            except threading.BrokenBarrierError:
                both.reset()

    def submit(item: int, answer: Answer[int]) -> None:
        def work() -> None:
            sys.setprofile(pause)
            answer(item)

        threading.Thread(target=work).start()

    async def ask_twice(ask: Callable[..., Any]) -> list[Any]:
        asked = [asyncio.wait_for(ask(submit, item), 5) for item in (1, 2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    async def main() -> list[Any]:
        bridge = Bridge()
        return [await ask_twice(bridge.ask) for _ in range(2)]

    assert asyncio.run(main()) == [[1, 2], [1, 2]]
