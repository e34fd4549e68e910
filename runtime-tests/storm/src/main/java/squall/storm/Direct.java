package squall.storm;

import static squall.storm.Check.await;
import static squall.storm.Check.say;
import static squall.storm.Check.that;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.storm.container.ResourceIsolationInterface;
import org.apache.storm.container.oci.RuncLibContainerManager;
import org.apache.storm.utils.ConfigUtils;
import org.apache.storm.utils.Utils;

/**
 * Drives Storm's own container manager through the life of workers, as the supervisor does.
 *
 * <p>Arguments: {@code begin USER ID}, which leaves worker ID running, then {@code resume USER ID} in another JVM, which knows
 * of it only what lies on the disk. Ends with status 1 and the reason when a check fails.
 */
public final class Direct {
    private static final String IMAGE = "squall/real:1";
    private static final String BROKEN_IMAGE = "squall/broken";
    private static final int PORT = 6700;

    /** Writes down what the container is like, then goes on; as the container's first process it never ends of SIGTERM. */
    private static final String LOOK_AND_STAY = String.join("\n",
        "{ echo \"pid $$\"",
        "echo \"ids $(id -u):$(id -g)\"",
        "echo \"groups $(id -G)\"",
        "echo \"image $(cat /etc/squall-image)\"",
        "echo \"removed $([ -e /etc/squall-removed ] && echo no || echo yes)\"",
        "echo \"entry point $SQUALL_ENTRY\"",
        "echo \"topology $SQUALL_TOPOLOGY\"",
        "echo \"umask $(umask)\"",
        "echo \"root $( (: >/squall-test) 2>/dev/null && echo written || echo refused)\"",
        "echo \"code $( (: >\"$PWD/../../supervisor/squall-test\") 2>/dev/null && echo written || echo refused)\"",
        "echo \"tmp $( (: >/tmp/squall-test) 2>/dev/null && echo written || echo refused)\"",
        "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status",
        "echo end; } >artifacts/seen.new 2>&1",
        "mv artifacts/seen.new artifacts/seen",
        "exec sleep 100000");

    /** Says when it is asked to end, then does. */
    private static final String END_WHEN_ASKED = String.join("\n",
        "trap 'echo TERM >artifacts/asked; exit 7' TERM",
        ": >artifacts/ready",
        "sleep 100000 & wait");

    private final Map<String, Object> conf;
    private final ResourceIsolationInterface manager = new RuncLibContainerManager();
    private final String user;

    private Direct(Map<String, Object> conf, String user) throws Exception {
        this.conf = conf;
        this.user = user;
        manager.prepare(conf);
        say("prepared: " + manager.getClass().getName());
    }

    public static void main(String[] args) {
        int status = 1;
        try {
            Direct direct = new Direct(Utils.readStormConfig(), args[1]);
            if (args[0].equals("begin")) {
                direct.begin(args[2]);
            } else {
                direct.resume(args[2]);
            }
            status = 0;
        } catch (Check.Failed e) {
            System.out.println("FAILED: " + e.getMessage());
        } catch (Exception e) {
            System.out.println("FAILED: " + e);
            e.printStackTrace(System.out);
        }
        // The manager's timer would keep the JVM.
        System.exit(status);
    }

    private Worker worker(int port, String id) {
        return new Worker(conf, manager, user, port, id);
    }

    private void begin(String id) throws Exception {
        Worker worker = worker(PORT, id);
        launchAndLook(worker);
        measure(worker);
        profile(worker);
        endWhenAsked();
        refuseBrokenLayer();
        manyAtOnce();
        that(!worker.isDead(), "the first worker did not live on beside the others");
        that(worker.ended.getCount() == 1, "the manager reported the end of a worker that lives");
        say("the first worker, pid " + worker.pid() + ", is left running for the next JVM");
    }

    private void launchAndLook(Worker worker) throws Exception {
        worker.setUp();
        say("launched in " + worker.launch(IMAGE, LOOK_AND_STAY) + " ms, the image copied from the store meanwhile");
        that(!worker.isDead(), "the manager takes a running container for dead");
        String owner = Files.getOwner(Path.of("/proc/" + worker.pid())).getName();
        that(owner.equals(user), "process " + worker.pid() + " belongs to " + owner + ", not to " + user);
        say("pid " + worker.pid() + " belongs to " + owner);

        Path seen = worker.artifacts().resolve("seen");
        await("what the worker saw, in " + seen, () -> Files.exists(seen));
        List<String> lines = Files.readAllLines(seen);
        say("it saw: " + String.join("; ", lines));
        for (String expected : List.of("pid 1", "image top", "removed yes", "entry point image", "topology direct", "umask 0027",
                "root refused", "code refused", "tmp written", "NoNewPrivs:\t1", "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000", "end")) {
            that(lines.contains(expected), "the worker did not see '" + expected + "'");
        }
        int uid = (Integer) Files.getAttribute(Path.of("/proc/" + worker.pid()), "unix:uid");
        int gid = (Integer) Files.getAttribute(Path.of("/proc/" + worker.pid()), "unix:gid");
        that(lines.contains("ids " + uid + ":" + gid), "the worker's ids inside are not " + uid + ":" + gid + ", as outside");
        String groups = lines.stream().filter(line -> line.startsWith("groups ")).findFirst().orElse("");
        that(groups.split(" ").length == 3, "the worker has not its primary group and one more: " + groups);
    }

    private void measure(Worker worker) throws Exception {
        long used = worker.memory();
        that(used > 0 && used < (long) Worker.MEMORY_MB << 20, "memory use is " + used + " bytes");
        say("memory use: " + used + " bytes; free by cgroup and machine: " + manager.getSystemFreeMemoryMb() + " MB");
    }

    private void profile(Worker worker) throws Exception {
        Path command = Path.of("/proc/" + worker.pid() + "/cmdline");
        await("the end of the shell in the worker", () -> Files.readString(command).startsWith("sleep"));
        that(worker.profile("1", "facts"), "the launcher's status of the profiler was not 0");
        Path facts = worker.artifacts().resolve("facts");
        that(Files.exists(facts), "the profiler left no " + facts);
        List<String> lines = Files.readAllLines(facts);
        say("profiled: " + String.join("; ", lines));
        that(lines.contains("sees sleep 100000 "), "the profiler did not see the container's first process");
        String here = Files.readSymbolicLink(Path.of("/proc/self/ns/pid")).toString();
        that(!lines.contains("pid-namespace " + here), "the profiler ran outside of the container");
        that(lines.contains("user " + Files.getAttribute(Path.of("/proc/" + worker.pid()), "unix:uid")), "the profiler was not the worker's user");
    }

    private void endWhenAsked() throws Exception {
        Worker worker = worker(PORT + 1, UUID.randomUUID().toString());
        worker.setUp();
        say("second worker launched in " + worker.launch(IMAGE, END_WHEN_ASKED) + " ms");
        await("the worker's handler of SIGTERM", () -> Files.exists(worker.artifacts().resolve("ready")));
        worker.kill();
        say("dead " + await("the end after SIGTERM", worker::isDead) + " ms after SIGTERM was sent");
        that(Files.readString(worker.artifacts().resolve("asked")).equals("TERM\n"), "the worker was not asked to end");
        that(worker.ended.await(30, TimeUnit.SECONDS), "the manager did not report the worker's end");
        say("its end was reported; " + exitRecord(worker, "\"exit\":{\"code\":7}"));
        worker.cleanUp();
    }

    /** Reads the exit record beside the pid file, which tells what Storm itself does not ask for. */
    private String exitRecord(Worker worker, String expected) throws Exception {
        Path file = worker.artifacts().resolve("container-" + worker.id + ".exit.json");
        await("the exit record " + file, () -> Files.exists(file));
        String record = Files.readString(file).replaceAll("\\s", "");
        that(record.contains(expected), "the exit record does not say " + expected + ": " + record);
        return "exit record: " + record.replaceAll(",\"created.*", ", ...}");
    }

    private void refuseBrokenLayer() throws Exception {
        Worker worker = worker(PORT + 2, UUID.randomUUID().toString());
        worker.setUp();
        try {
            worker.launch(BROKEN_IMAGE, "exit 0");
        } catch (RuntimeException e) {
            say("broken layer: " + e.getMessage());
            that(worker.isDead(), "a worker that was not launched counts as alive");
            worker.cleanUp();
            return;
        }
        throw new Check.Failed("a layer that is no squashfs was launched");
    }

    /** Eight workers, launched, killed and reaped by four threads at once. */
    private void manyAtOnce() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Long>> launches = new ArrayList<>();
        for (int number = 0; number < 8; number++) {
            Worker worker = worker(PORT + 10 + number, UUID.randomUUID().toString());
            launches.add(threads.submit(() -> {
                worker.setUp();
                long took = worker.launch(IMAGE, "exec sleep 100000");
                that(!worker.isDead(), "one of eight is dead");
                worker.forceKill();
                await("the end after SIGKILL", worker::isDead);
                worker.cleanUp();
                return took;
            }));
        }
        List<Long> took = new ArrayList<>();
        for (Future<Long> launch : launches) {
            took.add(launch.get(3, TimeUnit.MINUTES));
        }
        threads.shutdown();
        say("eight workers by four threads launched, killed and reaped; ms to launch: " + took);
    }

    /** Ends the worker of an earlier JVM. Its port counts as unknown, so the manager reads the container's id from the disk. */
    private void resume(String id) throws Exception {
        Worker known = worker(PORT, id);
        Worker worker = worker(-1, id);
        that(!worker.isDead(), "the worker of the earlier JVM counts as dead");
        say("pid " + known.pid() + " of the earlier JVM is alive; memory use: " + worker.memory() + " bytes");
        worker.kill();
        Thread.sleep(1000);
        that(!worker.isDead(), "a first process without a handler ended of SIGTERM");
        say("alive after SIGTERM, as a container's first process is without a handler");
        worker.forceKill();
        say("dead " + await("the end after SIGKILL", worker::isDead) + " ms after SIGKILL was sent; " + exitRecord(known, "\"signal\":9"));
        worker.cleanUp();
        for (String directory : List.of(ConfigUtils.workerRoot(conf), ConfigUtils.workerUserRoot(conf))) {
            String[] left = Path.of(directory).toFile().list();
            that(left != null && left.length == 0, "left in " + directory + ": " + String.join(", ", left == null ? new String[] {"?"} : left));
        }
        say("nothing is left of any worker");
    }
}
