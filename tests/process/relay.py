"""A network between real processes that can be cut: TCP relays in a thread of their own."""

import asyncio
import contextlib
import threading


class Network:
    """Relays to one address. While a relay is stalled, nothing passes it, in either direction, and
    what was sent waits, as with TCP when packets are lost."""

    def __init__(self, target):
        self.host, port = target.rsplit(":", 1)
        self.port = int(port)
        self.servers = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def close(self):
        """Ends all connections."""
        asyncio.run_coroutine_threadsafe(self.cancel_all(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def cancel_all(self):
        """On the loop's thread."""
        for server in self.servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def relay(self):
        """A new relay, which lets everything pass."""
        return asyncio.run_coroutine_threadsafe(Relay.start(self), self.loop).result()


class Relay:
    """See above. `address` is where to connect to."""

    @classmethod
    async def start(cls, network):
        """Listens."""
        self = cls()
        self.network = network
        self.open = asyncio.Event()
        self.open.set()
        server = await asyncio.start_server(self.connected, network.host, 0)
        network.servers.append(server)
        self.address = "%s:%d" % server.sockets[0].getsockname()[:2]
        return self

    def stall(self):
        """Nothing passes from now on."""
        self.network.loop.call_soon_threadsafe(self.open.clear)

    def heal(self):
        """Everything passes again."""
        self.network.loop.call_soon_threadsafe(self.open.set)

    async def connected(self, reader, writer):
        """One connection."""
        with contextlib.suppress(OSError):
            await self.open.wait()
            there = await asyncio.open_connection(self.network.host, self.network.port)
            await asyncio.gather(self.pump(reader, there[1]), self.pump(there[0], writer))
        writer.close()

    async def pump(self, reader, writer):
        """One direction of a connection; its end ends the other one, too."""
        try:
            while data := await reader.read(65536):
                await self.open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
