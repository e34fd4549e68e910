package squall.storm;

import java.time.Duration;
import java.time.Instant;

/** Says what a test does and what it saw; a check that fails ends the test with its reason. */
final class Check {
    /** A condition that may fail while it is looked at. */
    interface Condition {
        boolean holds() throws Exception;
    }

    /** A check did not hold; the message says which. */
    static final class Failed extends RuntimeException {
        Failed(String reason) {
            super(reason);
        }
    }

    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private Check() {
    }

    static void say(String text) {
        System.out.println("   " + text);
    }

    static void that(boolean holds, String otherwise) {
        if (!holds) {
            throw new Failed(otherwise);
        }
    }

    /** Waits until the condition holds, for a minute at most; returns the milliseconds that took. */
    static long await(String what, Condition condition) throws Exception {
        Instant begin = Instant.now();
        while (!condition.holds()) {
            that(Duration.between(begin, Instant.now()).compareTo(PATIENCE) < 0, "waited for a minute in vain: " + what);
            Thread.sleep(20);
        }
        return Duration.between(begin, Instant.now()).toMillis();
    }
}
