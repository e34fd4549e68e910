package squall.storm;

import java.io.File;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import org.apache.storm.shade.org.apache.zookeeper.server.NIOServerCnxnFactory;
import org.apache.storm.shade.org.apache.zookeeper.server.ZooKeeperServer;

/** The ZooKeeper that Storm ships, on the loopback address. Arguments: its directory and its port. */
public final class ZooKeeper {
    public static void main(String[] args) throws Exception {
        File directory = new File(args[0]);
        InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[1]));
        NIOServerCnxnFactory connections = new NIOServerCnxnFactory();
        connections.configure(address, 0);
        connections.startup(new ZooKeeperServer(directory, directory, 2000));
        System.out.println("ZooKeeper listens on " + address);
        connections.join();
    }
}
