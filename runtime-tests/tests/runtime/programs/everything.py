"""What CPython programs do: threads, processes, sockets, mapped memory, shared memory, asyncio, signals, temporary files."""
import asyncio, ctypes, hashlib, mmap, multiprocessing, os, signal, socket, sqlite3, subprocess, tempfile, threading, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory


def square(number):
    return number * number


async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    server.close()


def main():
    threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    with ProcessPoolExecutor(4) as pool:
        assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    asyncio.run(echo())
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 16)
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[5] = 7
            mapped.flush()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.buf[0] = 1
    memory.close()
    memory.unlink()
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, [3]) == [9]
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])
    assert len(socket.recv_fds(other, 1, 1)[1]) == 1
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    assert seen
    assert subprocess.run(["bash", "-c", "echo $((6*7))"], capture_output=True, check=True).stdout == b"42\n"
    with sqlite3.connect(tempfile.mktemp()) as database:
        database.execute("create table t(x)")
        database.execute("insert into t values (1)")
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.getrandom(16), os.memfd_create("x"), os.uname(), os.getloadavg()
    assert ctypes.CDLL(None).getpid() == os.getpid() and hashlib.sha256(b"").hexdigest()
    print("all of it")


if __name__ == "__main__":
    main()
