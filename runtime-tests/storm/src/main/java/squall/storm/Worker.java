package squall.storm;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.storm.Config;
import org.apache.storm.container.ResourceIsolationInterface;
import org.apache.storm.daemon.supervisor.AdvancedFSOps;
import org.apache.storm.utils.ConfigUtils;

/** A worker as the supervisor keeps it: its directories, and the calls of the container manager that concern it. */
final class Worker {
    static final int MEMORY_MB = 256;
    private static final String TOPOLOGY = "direct-1-1";

    final String id;
    /** Falls when the manager reports that the worker's container is no more. */
    final CountDownLatch ended = new CountDownLatch(1);
    private final Map<String, Object> conf;
    private final ResourceIsolationInterface manager;
    private final String user;
    private final int port;
    private final AdvancedFSOps files;

    Worker(Map<String, Object> conf, ResourceIsolationInterface manager, String user, int port, String id) {
        this.conf = conf;
        this.manager = manager;
        this.user = user;
        this.port = port;
        this.id = id;
        this.files = AdvancedFSOps.make(conf);
    }

    /** Makes the directories and files that the supervisor makes before a launch, with its own classes. */
    void setUp() throws IOException {
        for (String directory : List.of(ConfigUtils.workerPidsRoot(conf, id), ConfigUtils.workerTmpRoot(conf, id),
                ConfigUtils.workerHeartbeatsRoot(conf, id), ConfigUtils.sharedByTopologyDir(conf, TOPOLOGY))) {
            files.forceMkdir(new File(directory));
        }
        File artifacts = artifacts().toFile();
        if (!artifacts.exists()) {
            files.forceMkdir(artifacts);
            files.setupWorkerArtifactsDir(user, artifacts);
        }
        files.createSymlink(directory().resolve("artifacts").toFile(), artifacts);
        files.dump(new File(ConfigUtils.workerUserFile(conf, id)), user);
    }

    /** Launches the script in a container of the image, as a worker's JVM would be. Returns the milliseconds that took. */
    long launch(String image, String script) throws IOException {
        manager.reserveResourcesForWorker(id, MEMORY_MB, 100, null);
        long begin = System.nanoTime();
        manager.launchWorkerProcess(user, TOPOLOGY, Map.of(Config.TOPOLOGY_OCI_IMAGE, image), port, id,
            List.of("bash", "-c", script), Map.of("SQUALL_TOPOLOGY", "direct"), "launch " + id,
            status -> ended.countDown(), directory().toFile());
        return (System.nanoTime() - begin) / 1_000_000;
    }

    boolean isDead() throws IOException {
        return manager.areAllProcessesDead(user, id);
    }

    long memory() throws IOException {
        return manager.getMemoryUsage(user, id, port);
    }

    void kill() throws IOException {
        manager.kill(user, id);
    }

    void forceKill() throws IOException {
        manager.forceKill(user, id);
    }

    /** Runs the profiler of worker-launcher.cfg in the container. */
    boolean profile(String pid, String action) throws Exception {
        return manager.runProfilingCommand(user, id, List.of("", pid, action, artifacts().toString()),
            Map.of("SQUALL_TOPOLOGY", "direct"), "profile " + id, artifacts().toFile());
    }

    /** Reaps the container. */
    void reap() throws IOException {
        manager.cleanup(user, id, port);
    }

    /** Reaps the container and deletes the worker's files, in the supervisor's order. */
    void cleanUp() throws IOException {
        reap();
        deleteFiles();
    }

    void deleteFiles() throws IOException {
        for (String path : List.of(ConfigUtils.workerHeartbeatsRoot(conf, id), ConfigUtils.workerPidsRoot(conf, id),
                ConfigUtils.workerTmpRoot(conf, id), ConfigUtils.workerRoot(conf, id))) {
            files.deleteIfExists(new File(path), user, id);
        }
        files.deleteIfExists(new File(ConfigUtils.workerUserFile(conf, id)));
        Check.that(!Files.exists(directory()), "the worker's directory is still there: " + directory());
    }

    Path directory() {
        return Path.of(ConfigUtils.workerRoot(conf, id));
    }

    Path artifacts() {
        return Path.of(ConfigUtils.workerArtifactsRoot(conf, TOPOLOGY, port));
    }

    /** Host pid of the container's first process. */
    long pid() throws IOException {
        return Long.parseLong(Files.readAllLines(artifacts().resolve("container-" + id + ".pid")).get(0));
    }
}
