"""A proxy that makes a server on this machine as far away as one in a cloud: each request arrives 20 ms later."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.02


@contextmanager
def far_away(port: int) -> Iterator[int]:
    """Put the proxy before a server on this port. Yields its own. A process: it takes no time from who measures."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.distance", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve(port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_passed_on(reader, to_writer, SECONDS), _passed_on(to_reader, writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what comes, that much later and in order; the bytes of one request need not wait for each other."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(65_536):
        if seconds:
            loop.call_later(seconds, writer.write, data)
        else:
            writer.write(data)
    loop.call_later(seconds, writer.close)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
