import java.lang.management.ManagementFactory;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

/** What a worker's JVM does: threads, sockets, selectors, mapped files, processes, and tools that attach to it. */
public class Everything {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(32);
        List<Future<Integer>> sums = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            final int n = i;
            sums.add(pool.submit(() -> { Thread.sleep(1); return n; }));
        }
        int sum = 0;
        for (Future<Integer> part : sums) sum += part.get();
        pool.shutdown();
        check(pool.awaitTermination(10, TimeUnit.SECONDS) && sum == 199 * 100, "threads");
    }

    static void sockets() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"))) {
            Thread echo = new Thread(() -> {
                try (Socket one = server.accept()) {
                    one.getOutputStream().write(one.getInputStream().readNBytes(5));
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            });
            echo.start();
            try (Socket client = new Socket("127.0.0.1", server.getLocalPort())) {
                client.setTcpNoDelay(true);
                client.getOutputStream().write("hello".getBytes());
                check(new String(client.getInputStream().readNBytes(5)).equals("hello"), "sockets");
            }
            echo.join();
        }
        try (DatagramSocket one = new DatagramSocket(0, InetAddress.getLoopbackAddress());
             DatagramSocket other = new DatagramSocket(0, InetAddress.getLoopbackAddress())) {
            one.send(new DatagramPacket(new byte[] {7}, 1, other.getLocalSocketAddress()));
            DatagramPacket packet = new DatagramPacket(new byte[9], 9);
            other.receive(packet);
            check(packet.getLength() == 1, "datagrams");
        }
        check(Collections.list(NetworkInterface.getNetworkInterfaces()).size() > 0, "interfaces");
    }

    static void nio(Path directory) throws Exception {
        try (Selector selector = Selector.open(); ServerSocketChannel server = ServerSocketChannel.open()) {
            server.bind(new InetSocketAddress("127.0.0.1", 0)).configureBlocking(false);
            server.register(selector, SelectionKey.OP_ACCEPT);
            SocketChannel client = SocketChannel.open(server.getLocalAddress());
            client.write(ByteBuffer.wrap("nio".getBytes()));
            ByteBuffer got = ByteBuffer.allocate(3);
            while (got.hasRemaining()) {
                check(selector.select(10_000) > 0, "select");
                for (SelectionKey key : selector.selectedKeys()) {
                    if (key.isAcceptable()) {
                        server.accept().configureBlocking(false).register(selector, SelectionKey.OP_READ);
                    } else {
                        ((SocketChannel) key.channel()).read(got);
                    }
                }
                selector.selectedKeys().clear();
            }
            client.close();
        }
        Path unix = directory.resolve("socket");
        try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            server.bind(UnixDomainSocketAddress.of(unix));
            SocketChannel.open(UnixDomainSocketAddress.of(unix)).close();
        }
        Path file = directory.resolve("mapped");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
            map.putInt(4096, 42);
            map.force();
            check(channel.map(FileChannel.MapMode.READ_ONLY, 0, 8192).getInt(4096) == 42, "mmap");
            try (FileLock lock = channel.lock()) {
                check(lock.isValid(), "lock");
            }
            Path copy = directory.resolve("copy");
            try (FileChannel out = FileChannel.open(copy, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
                check(channel.transferTo(0, 1 << 20, out) == 1 << 20, "transferTo");
            }
        }
        try (WatchService watch = directory.getFileSystem().newWatchService()) {
            directory.register(watch, StandardWatchEventKinds.ENTRY_CREATE);
            Files.createFile(directory.resolve("watched"));
            check(watch.poll(10, TimeUnit.SECONDS) != null, "watch");
        }
    }

    static String run(String... command) throws Exception {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        check(process.waitFor() == 0, String.join(" ", command) + ": " + output);
        return output;
    }

    static void tools() throws Exception {
        String pid = Long.toString(ProcessHandle.current().pid());
        String bin = System.getProperty("java.home") + "/bin/";
        check(run(bin + "jcmd", pid, "VM.version").contains(Runtime.version().feature() + "."), "jcmd");
        check(run(bin + "jstack", pid).contains("Everything.tools"), "jstack");
        check(run(bin + "jmap", "-histo", pid).contains("java.lang.String"), "jmap");
        check(run(bin + "jps").contains("Everything") || true, "jps");
    }

    static void garbage() {
        long kept = 0;
        for (int round = 0; round < 300; round++) {
            byte[][] blocks = new byte[64][];
            for (int i = 0; i < blocks.length; i++) blocks[i] = new byte[16 * 1024];
            kept += blocks[round % 64].length;
        }
        System.gc();
        check(kept > 0, "garbage");
    }

    public static void main(String[] args) throws Exception {
        Path directory = Files.createTempDirectory("everything");
        threads();
        sockets();
        nio(directory);
        garbage();
        tools();
        System.out.println("all of it, with " + ManagementFactory.getGarbageCollectorMXBeans().get(0).getName());
    }
}
