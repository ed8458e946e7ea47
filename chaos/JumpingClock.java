import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.cassandra.utils.Clock;

/**
 * The clock of a Cassandra node (its property cassandra.clock). It is ahead by {@code chaos.clock.jump_ms} as long as
 * the file {@code chaos.clock.file} exists. Time that is measured for timeouts goes on evenly, as on a real machine.
 */
public final class JumpingClock implements Clock {
    private static final Path FILE = Path.of(System.getProperty("chaos.clock.file"));
    private static final long JUMP_MS = Long.getLong("chaos.clock.jump_ms");

    @Override
    public long currentTimeMillis() {
        return System.currentTimeMillis() + (Files.exists(FILE) ? JUMP_MS : 0);
    }

    @Override
    public long nanoTime() {
        return System.nanoTime();
    }
}
