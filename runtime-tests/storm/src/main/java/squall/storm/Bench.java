package squall.storm;

import static squall.storm.Check.await;
import static squall.storm.Check.say;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.storm.container.ResourceIsolationInterface;
import org.apache.storm.container.oci.RuncLibContainerManager;
import org.apache.storm.utils.Utils;

/**
 * What launches and reaps take when Storm's own container manager asks for them.
 *
 * <p>Arguments: {@code USER NAME=LAUNCHER...}. The launchers take turns, so that a busy machine is as busy for the one as for the
 * other; the first is compared with each of the others.
 */
public final class Bench {
    private static final String IMAGE = "squall/real:1";
    private static final String SCRIPT = "exec sleep 100000";
    private static final int WARM = 3;
    private static final int PACED = 20;
    private static final int COLD = 10;
    private static final int BATCHES = 6;
    private static final int BATCH = 8;
    private static final int ROUNDS = 6;
    private static final int AT_ONCE = 16;
    private static final long PAUSE_MILLISECONDS = 400;
    private static int port = 6700;

    private Bench() {
    }

    /** A launcher with a manager that calls it. */
    private static final class Contender {
        final String name;
        final String user;
        final String launcher;
        final Map<String, Object> conf;
        final ResourceIsolationInterface manager = new RuncLibContainerManager();
        final Map<String, List<Double>> figures = new HashMap<>();

        Contender(String argument, String user) throws Exception {
            String[] parts = argument.split("=", 2);
            this.name = parts[0];
            this.launcher = parts[1];
            this.user = user;
            conf = Utils.readStormConfig();
            conf.put("supervisor.worker.launcher", launcher);
            manager.prepare(conf);
        }

        Worker worker() throws Exception {
            Worker worker = new Worker(conf, manager, user, port++, UUID.randomUUID().toString());
            worker.setUp();
            return worker;
        }

        void launch(String what, Worker worker) throws Exception {
            timed(what + ": launch, ms", () -> worker.launch(IMAGE, SCRIPT));
        }

        void end(String what, Worker worker) throws Exception {
            kill(worker);
            timed(what + ": reap, ms", () -> {
                worker.reap();
                return null;
            });
            worker.deleteFiles();
        }

        void kill(Worker worker) throws Exception {
            worker.forceKill();
            await("the end after SIGKILL", worker::isDead);
        }

        /** Unmounts all layers: the launcher answers 1, as there is no such container. */
        void forgetLayers() throws Exception {
            new ProcessBuilder(launcher, user, "reap-oci-container", "6700-00000000-0000-0000-0000-000000000000", "0")
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
        }

        void timed(String what, Callable<?> work) throws Exception {
            long begin = System.nanoTime();
            work.call();
            add(what, (System.nanoTime() - begin) / 1e6);
        }

        void add(String what, double figure) {
            figures.computeIfAbsent(what, key -> new ArrayList<>()).add(figure);
        }
    }

    public static void main(String[] args) {
        int status = 1;
        try {
            List<Contender> contenders = new ArrayList<>();
            for (String argument : Arrays.copyOfRange(args, 1, args.length)) {
                contenders.add(new Contender(argument, args[0]));
            }
            measure(contenders);
            print(contenders);
            status = 0;
        } catch (Exception e) {
            System.out.println("FAILED: " + e);
            e.printStackTrace(System.out);
        }
        // The managers' timers would keep the JVM.
        System.exit(status);
    }

    private static void measure(List<Contender> contenders) throws Exception {
        alone("warming up", WARM, contenders, false);
        alone("paced", PACED, contenders, false);
        alone("paced, layers not mounted", COLD, contenders, true);
        for (int batch = 0; batch < BATCHES; batch++) {
            for (Contender contender : contenders) {
                backToBack(contender);
            }
        }
        for (int round = 0; round < ROUNDS; round++) {
            for (Contender contender : contenders) {
                atOnce(contender);
            }
        }
        contenders.forEach(contender -> contender.figures.keySet().removeIf(what -> what.startsWith("warming up")));
    }

    /** One worker at a time, with a pause before each launch. */
    private static void alone(String what, int count, List<Contender> contenders, boolean forget) throws Exception {
        for (int number = 0; number < count; number++) {
            for (Contender contender : contenders) {
                if (forget) {
                    contender.forgetLayers();
                }
                Worker worker = contender.worker();
                Thread.sleep(PAUSE_MILLISECONDS);
                contender.launch(what, worker);
                contender.end(what, worker);
            }
        }
    }

    /** Several workers, one launched as soon as the other is there; then reaped likewise. */
    private static void backToBack(Contender contender) throws Exception {
        List<Worker> workers = workers(contender, BATCH);
        for (Worker worker : workers) {
            contender.launch("back to back", worker);
        }
        for (Worker worker : workers) {
            contender.kill(worker);
        }
        for (Worker worker : workers) {
            contender.timed("back to back: reap, ms", () -> {
                worker.reap();
                return null;
            });
        }
        for (Worker worker : workers) {
            worker.deleteFiles();
        }
    }

    private static void atOnce(Contender contender) throws Exception {
        List<Worker> workers = workers(contender, AT_ONCE);
        ExecutorService threads = Executors.newFixedThreadPool(AT_ONCE);
        contender.add(AT_ONCE + " at a time: launches a second", perSecond(threads, workers, worker -> worker.launch(IMAGE, SCRIPT)));
        for (Worker worker : workers) {
            contender.kill(worker);
        }
        contender.add(AT_ONCE + " at a time: reaps a second", perSecond(threads, workers, worker -> {
            worker.reap();
            return 0;
        }));
        threads.shutdown();
        for (Worker worker : workers) {
            worker.deleteFiles();
        }
    }

    private static List<Worker> workers(Contender contender, int count) throws Exception {
        List<Worker> workers = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            workers.add(contender.worker());
        }
        return workers;
    }

    private interface Work {
        long of(Worker worker) throws Exception;
    }

    private static double perSecond(ExecutorService threads, List<Worker> workers, Work work) throws Exception {
        List<Future<Long>> done = new ArrayList<>();
        long begin = System.nanoTime();
        for (Worker worker : workers) {
            done.add(threads.submit(() -> work.of(worker)));
        }
        for (Future<Long> one : done) {
            one.get();
        }
        return workers.size() / ((System.nanoTime() - begin) / 1e9);
    }

    private static void print(List<Contender> contenders) {
        Contender first = contenders.get(0);
        for (String what : first.figures.keySet().stream().sorted().toList()) {
            StringBuilder line = new StringBuilder(String.format("%-45s", what));
            for (Contender contender : contenders) {
                List<Double> figures = contender.figures.get(what).stream().sorted().toList();
                line.append(String.format(" %s %6.1f (%.1f to %.1f)", contender.name, median(figures), figures.get(0),
                    figures.get(figures.size() - 1)));
                if (contender != first) {
                    double own = median(first.figures.get(what).stream().sorted().toList());
                    double ratio = what.endsWith("a second") ? own / median(figures) : median(figures) / own;
                    line.append(String.format("  %.1f times", ratio));
                }
            }
            say(line.toString());
        }
    }

    private static double median(List<Double> sorted) {
        int middle = sorted.size() / 2;
        return sorted.size() % 2 == 1 ? sorted.get(middle) : (sorted.get(middle - 1) + sorted.get(middle)) / 2;
    }
}
