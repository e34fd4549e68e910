package squall.storm;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.storm.Config;
import org.apache.storm.StormSubmitter;
import org.apache.storm.generated.KillOptions;
import org.apache.storm.generated.NodeInfo;
import org.apache.storm.generated.ProfileAction;
import org.apache.storm.generated.ProfileRequest;
import org.apache.storm.spout.SpoutOutputCollector;
import org.apache.storm.task.TopologyContext;
import org.apache.storm.topology.BasicOutputCollector;
import org.apache.storm.topology.OutputFieldsDeclarer;
import org.apache.storm.topology.TopologyBuilder;
import org.apache.storm.topology.base.BaseBasicBolt;
import org.apache.storm.topology.base.BaseRichSpout;
import org.apache.storm.tuple.Fields;
import org.apache.storm.tuple.Tuple;
import org.apache.storm.tuple.Values;
import org.apache.storm.utils.NimbusClient;
import org.apache.storm.utils.Utils;

/**
 * A topology of one worker that counts tuples and writes down where it does so.
 *
 * <p>Arguments: {@code submit NAME}, {@code jstack ID PORT} or {@code kill NAME}.
 */
public final class Counting {

    /** Emits numbers, a thousand a second at most. */
    public static class Numbers extends BaseRichSpout {
        private SpoutOutputCollector collector;
        private long next;

        @Override
        public void open(Map<String, Object> conf, TopologyContext context, SpoutOutputCollector collector) {
            this.collector = collector;
        }

        @Override
        public void nextTuple() {
            collector.emit(new Values(next++));
            Utils.sleep(1);
        }

        @Override
        public void declareOutputFields(OutputFieldsDeclarer declarer) {
            declarer.declare(new Fields("number"));
        }
    }

    /**
     * Counts tuples. The count and what the container looks like from inside go to {@code artifacts/count};
     * once there is a file {@code artifacts/allocate}, it takes memory until it is stopped.
     */
    public static class Count extends BaseBasicBolt {
        private static final Path ARTIFACTS = Path.of("artifacts");
        private final List<ByteBuffer> taken = new ArrayList<>();
        private long tuples;
        private long written;

        @Override
        public void execute(Tuple tuple, BasicOutputCollector collector) {
            tuples++;
            long now = System.currentTimeMillis();
            if (now - written >= 200) {
                written = now;
                try {
                    write();
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            }
        }

        private void write() throws IOException {
            String text = "tuples " + tuples + "\n"
                + "pid " + ProcessHandle.current().pid() + "\n"
                + "pid-namespace " + Files.readSymbolicLink(Path.of("/proc/self/ns/pid")) + "\n"
                + "image " + Files.readString(Path.of("/etc/squall-image")).strip() + "\n"
                + "environment " + System.getenv("SQUALL_TOPOLOGY") + "\n"
                + Files.readAllLines(Path.of("/proc/self/status")).stream()
                    .filter(line -> line.matches("(Uid|Gid|Groups|CapBnd|NoNewPrivs):.*"))
                    .collect(Collectors.joining("\n")) + "\n";
            Path unfinished = ARTIFACTS.resolve("count.new");
            Files.writeString(unfinished, text);
            Files.move(unfinished, ARTIFACTS.resolve("count"), StandardCopyOption.ATOMIC_MOVE);
            if (Files.exists(ARTIFACTS.resolve("allocate"))) {
                // Outside of the heap, whose size Java bounds itself.
                taken.add(ByteBuffer.allocateDirect(64 << 20));
            }
        }

        @Override
        public void declareOutputFields(OutputFieldsDeclarer declarer) {
        }
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "submit" -> submit(args[1]);
            case "jstack" -> requestJstack(args[1], Long.parseLong(args[2]));
            case "kill" -> kill(args[1]);
            default -> throw new IllegalArgumentException("unknown command '" + args[0] + "'");
        }
    }

    private static void submit(String name) throws Exception {
        TopologyBuilder topology = new TopologyBuilder();
        topology.setSpout("numbers", new Numbers());
        topology.setBolt("count", new Count()).shuffleGrouping("numbers");
        Config conf = new Config();
        conf.setNumWorkers(1);
        conf.setNumAckers(0);
        conf.put(Config.TOPOLOGY_EVENTLOGGER_EXECUTORS, 0);
        conf.put(Config.TOPOLOGY_ENVIRONMENT, Map.of("SQUALL_TOPOLOGY", "counting"));
        conf.put(Config.TOPOLOGY_WORKER_CHILDOPTS, "-XX:MaxDirectMemorySize=64g");
        StormSubmitter.submitTopology(name, conf, topology.createTopology());
    }

    /** Asks for a thread dump of the worker on a port; the supervisor starts the profiler in the worker's container. */
    private static void requestJstack(String topologyId, long port) throws Exception {
        NodeInfo worker = new NodeInfo("localhost", java.util.Set.of(port));
        ProfileRequest request = new ProfileRequest(worker, ProfileAction.JSTACK_DUMP);
        request.set_time_stamp(System.currentTimeMillis() + 60_000);
        NimbusClient.withConfiguredClient(nimbus -> nimbus.setWorkerProfiler(topologyId, request));
    }

    private static void kill(String name) throws Exception {
        KillOptions options = new KillOptions();
        options.set_wait_secs(1);
        NimbusClient.withConfiguredClient(nimbus -> nimbus.killTopologyWithOpts(name, options));
    }
}
